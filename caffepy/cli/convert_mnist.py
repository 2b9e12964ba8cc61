"""caffepy convert-mnist: MNIST's IDX files to a database."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.convert_mnist")


@click.command()
@click.argument("images")
@click.argument("labels")
@click.argument("db")
@options.backend
@options.max_memory
def command(images, labels, db, backend):
    """Convert the IDX files IMAGES and LABELS, gzipped or not, to the database DB."""
    from caffepy.cli import terminal
    from caffepy.data.sources.databases import create_database
    from caffepy.data.sources.datum import from_image
    from caffepy.data.sources.idx import read_idx
    from caffepy.errors import DataError

    terminal.start_logging()
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise DataError(
            f"{images} has {len(pixels)} images, {labels} has {len(classes)} labels",
            hint="The two files must belong together: both train or both t10k.",
        )
    with create_database(db, backend) as put:
        log.info("Opened %s %s", backend, db)
        log.info("A total of %d items.", len(pixels))
        log.info("Rows: %d Cols: %d", *pixels.shape[1:])
        # Labels are signed, as Caffe reads them.
        for i, (image, label) in enumerate(zip(pixels, classes.astype("i1"))):
            put(b"%08d" % i, from_image(image[None], int(label)).SerializeToString())
    log.info("Processed %d files.", len(pixels))
