"""caffepy test: score a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.test")


@click.command(help="Score a model on the data of its TEST phase.")
@options.model()
@click.option("--weights", required=True, help='Trained weights, separated by ",".')
@click.option("--iterations", default=50, show_default=True, help="How many batches.")
@click.option("--confusion", default="", help="Draw the confusion matrix to this file (.png, .svg, ...).")
@click.option("--gallery", default="", help="Draw the worst predictions to this file (.png, .jpg, ...).")
@click.option("--labels", default="", help="A file with the name of a class in each line, for both.")
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
def command(model, weights, iterations, confusion, gallery, labels, level, stage, gpu, engine, precision, verbose):
    from caffepy.cli import terminal
    from caffepy.proto.caffe_pb2 import TEST
    from caffepy.solver import testing
    from caffepy.solver.display import number_lines

    handler = terminal.start_logging(verbose)
    if iterations < 1:
        raise click.UsageError(f"--iterations must be at least 1, got {iterations}")
    net = options.inference_net(model, TEST, level, stage, weights, engine, gpu, precision)
    answers = None
    if confusion or gallery:
        from caffepy.show.answers import Answers

        answers = Answers(net, labels, confusion, gallery)
    log.info("Running for %d iterations.", iterations)

    def batches() -> Iterator[float]:
        for batch in range(iterations):
            yield 1
            for name, _, values in net.output_values():
                for line in number_lines(name, 0, values):
                    log.info("Batch %d, %s", batch, line)
            if answers is not None:
                answers.add()
            advance(batch + 1)

    with terminal.progress(handler, "testing", iterations) as advance:
        results = testing.test(net, batches())
    log.info("Loss: %.6g", results.loss)
    for output in results.outputs:
        for line in number_lines(*output):
            log.info("%s", line)
    if answers is not None:
        answers.draw()
