"""caffepy convert-mnist: MNIST's IDX files to a database."""

from __future__ import annotations

import click


@click.command()
@click.argument("images")
@click.argument("labels")
@click.argument("db")
def command(images, labels, db):
    """Convert the IDX files IMAGES and LABELS, gzipped or not, to the LMDB DB."""
    from caffepy.data.datum import from_image
    from caffepy.data.idx import read_idx
    from caffepy.data.lmdb import write_lmdb
    from caffepy.errors import DataError

    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise DataError(
            f"{images} has {len(pixels)} images, {labels} has {len(classes)} labels",
            hint="The two files must belong together: both train or both t10k.",
        )
    signed = classes.astype("i1")  # as Caffe reads them
    records = (
        (b"%08d" % i, from_image(image[None], int(label)).SerializeToString())
        for i, (image, label) in enumerate(zip(pixels, signed))
    )
    count = write_lmdb(db, records)
    click.echo(f"{db}: {count} digits of {pixels.shape[1]}x{pixels.shape[2]} pixels")
