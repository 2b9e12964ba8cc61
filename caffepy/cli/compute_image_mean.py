"""caffepy compute-image-mean: the mean picture of a database."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.compute_image_mean")


@click.command()
@click.argument("input_db")
@click.argument("output_file", required=False)
@options.found_backend
@options.max_memory
def command(input_db, output_file, backend):
    """Write the mean picture of INPUT_DB to OUTPUT_FILE (.binaryproto) and print the mean of each channel."""
    import numpy as np

    from caffepy.cli import terminal
    from caffepy.data.pictures.mean import mean_image, records, write_mean
    from caffepy.files import check_writable

    handler = terminal.start_logging()
    if output_file:
        check_writable(output_file)
    reader, backend = options.open_db(input_db, backend)
    log.info("Opened %s %s", backend, input_db)
    if next(records(reader))[1].encoded:
        log.info("Decoding Datum")
    log.info("Starting iteration")
    with terminal.progress(handler, "adding", len(reader)) as advance:
        mean = mean_image(reader, lambda done: (advance(done), _report(done, len(reader))))
    if output_file:
        log.info("Write to %s", output_file)
        write_mean(mean, output_file)
    log.info("Number of channels: %d", len(mean))
    for channel, values in enumerate(mean):
        # The running sum in single precision that Caffe prints, not numpy's pairwise one.
        log.info("mean_value channel [%d]: %.6g", channel, np.cumsum(values)[-1] / np.float32(values.size))


def _report(done: int, total: int) -> None:
    if done % 10000 == 0 or done == total:
        log.info("Processed %d files.", done)
