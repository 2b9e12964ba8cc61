"""caffepy time: how long each layer takes."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.time")


@click.command(help="Measure forward and backward passes, layer by layer.")
@options.model()
@click.option("--weights", default="", help='Trained weights, separated by ",".')
@click.option("--iterations", default=50, show_default=True, help="How many passes are measured.")
@click.option(
    "--phase", type=options.choice(["TRAIN", "TEST"]), default="TRAIN", show_default=True, help="Of which net."
)
@options.level
@options.stage
@options.gpu
@options.inference_engine
@options.precision
@options.imports
@options.setting()
@options.verbose
@options.max_memory
@options.no_python_layers
@options.force
def command(model, weights, iterations, phase, level, stage, gpu, engine, precision, verbose):
    from caffepy import passes
    from caffepy.cli import terminal
    from caffepy.proto.caffe_pb2 import Phase
    from caffepy.show.timing import time_layers

    handler = terminal.start_logging(verbose)
    if iterations < 1:
        raise click.UsageError(f"--iterations must be at least 1, got {iterations}")
    net = options.inference_net(model, Phase.Value(phase), level, stage, weights or None, engine, gpu, precision)
    log.info("Testing for %d iterations.", iterations)
    with terminal.progress(handler, "timing", iterations) as advance:
        times = time_layers(net, iterations, advance)
    terminal.echo(times.table())
    log.info("Average Forward pass: %.6g ms.", times.forward)
    if passes.of(net).gradients:
        log.info("Average Backward pass: %.6g ms.", times.backward)
        log.info("Average Forward-Backward: %.6g ms.", times.total)
    if times.data_wait is not None:
        log.info("Average wait for data: %.6g ms.", times.data_wait)
