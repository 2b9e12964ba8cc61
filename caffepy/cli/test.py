"""caffepy test: score a model."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.test")


@click.command(help="Score a model on the data of its TEST phase.")
@options.model()
@click.option("--weights", required=True, help='Trained weights, separated by ",".')
@click.option("--iterations", default=50, show_default=True, help="How many batches.")
@options.level
@options.stage
@options.gpu
@options.engine
@options.precision
@options.imports
@options.verbose
def command(model, weights, iterations, level, stage, gpu, engine, precision, verbose):
    import numpy as np

    from caffepy.cli import terminal
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TEST
    from caffepy.solver.loss import added

    handler = terminal.start_logging(verbose)
    if iterations < 1:
        raise click.UsageError(f"--iterations must be at least 1, got {iterations}")
    engine = options.choose_engine(engine, gpu, precision=precision)
    net = Net(model, TEST, level, options.stages(stage), weights=weights, engine=engine)
    log.info("Running for %d iterations.", iterations)
    sums, loss = {}, 0.0
    with terminal.progress(handler, "testing", iterations) as advance:
        for batch in range(iterations):
            loss += float(net.forward_from_to())
            for name, weight, values in net.output_values():
                for value in np.ravel(values):
                    log.info("Batch %d, %s = %.6g", batch, name, value)
                sums[name] = (weight, added(name, sums[name][1] if name in sums else None, values))
            advance(batch + 1)
    log.info("Loss: %.6g", loss / iterations)
    for name, (weight, total) in sums.items():
        for mean in np.ravel(total / iterations):
            loss_part = f" (* {weight:.6g} = {weight * mean:.6g} loss)" if weight else ""
            log.info("%s = %.6g%s", name, mean, loss_part)
