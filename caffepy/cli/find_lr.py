"""caffepy find-lr: which learning rate to take."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.option("--solver", required=True, help="The solver definition (prototxt).")
@click.option("--from", "first", default=1e-6, show_default=True, help="The first rate.")
@click.option("--to", "last", default=10.0, show_default=True, help="The last rate, unless the loss is lost before.")
@click.option("--iterations", type=click.IntRange(min=10), default=200, show_default=True, help="How many rates.")
@click.option("--plot", default="", help="A picture of the losses to write, .png or .svg.")
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
def command(solver, first, last, iterations, plot, level, stage, gpu, engine, precision, verbose):
    """Train briefly with a rate that rises, and print the loss at each, and the base_lr where it falls fastest.

    Rule, momentum, decay and batch size are the solver's. Nothing is written but the picture.
    """
    import logging

    from caffepy.cli import terminal
    from caffepy.proto import text
    from caffepy.show import pictures
    from caffepy.show.rates import sweep

    handler = terminal.start_logging(verbose)
    pictures.check(plot)
    if not verbose:
        logging.getLogger("caffepy").setLevel(logging.WARNING)
    param = text.read_solver(solver)
    param.train_state.level = level
    param.train_state.stage.extend(options.stages(stage))
    chosen = options.choose_engine(engine, gpu, param, precision)
    with terminal.progress(handler, "training", iterations) as advance:
        found = sweep(param, first, last, iterations, chosen, solver, advance)
    terminal.echo(found.table())
    if plot:
        found.plot(plot)
