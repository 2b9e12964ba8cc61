"""caffepy conflicts: how the tasks of a net agree."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.option("--solver", required=True, help="The solver definition (prototxt).")
@click.option("--iterations", default=100, show_default=True, help="How long to train, with all tasks and with each.")
@click.option("--plot", default="", help="A picture of cosines and losses to write, .png or .svg.")
@click.option("--tensorboard", default="", metavar="DIR", help="Write their curves for TensorBoard into this folder.")
@options.level
@options.stage
@options.gpu
@options.engine
@options.precision
@options.verbose
@options.max_memory
@options.no_python_layers
@options.force
@options.imports
@options.setting(of_net=False)
def command(solver, iterations, plot, tensorboard, level, stage, gpu, engine, precision, verbose):
    """Train briefly and show where the gradients of the tasks conflict.

    For each pair of tasks and each layer that they share: the mean cosine of their gradients, the share of iterations
    where it is negative, and their norms. Then, trained from the same weights on the same batches, what each loss
    reaches with all tasks and alone. Nothing is written but the picture.
    """
    import logging
    from itertools import count

    from caffepy.cli import terminal
    from caffepy.proto import text
    from caffepy.show import pictures
    from caffepy.show.conflicts import watch

    handler = terminal.start_logging(verbose)
    if not verbose:
        logging.getLogger("caffepy").setLevel(logging.WARNING)
    pictures.check(plot)
    if iterations < 2:
        raise click.UsageError(f"--iterations must be at least 2, got {iterations}")
    param = text.read_solver(solver)
    if tensorboard:
        param.tensorboard_dir = tensorboard
    param.train_state.level = level
    param.train_state.stage.extend(options.stages(stage))
    chosen = options.choose_engine(engine, gpu, param, precision)
    with terminal.progress(handler, "training", None) as advance:
        done = count(1)
        found = watch(param, iterations, chosen, solver, lambda: advance(next(done)))
    terminal.echo(found.table())
    if plot:
        found.plot(plot)
