"""caffepy new: a net of the zoo as one's own."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("name")
@click.argument("folder", required=False)
@click.option("--data", metavar="DB", default="", help="Your data: a database, or a folder of those to train and test.")
@click.option("--classes", type=click.IntRange(min=1), help="Number of classes (default: the lines of DB/labels.txt).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Records a batch (default: by the size of DB).")
@click.option("--base-lr", type=click.FloatRange(min=0, min_open=True), help="Learning rate (default: by batch size).")
@click.option(
    "--finetune", metavar="WEIGHTS", default="", help="Start from these, with all but a new last layer frozen."
)
@options.max_memory
def command(name, folder, data, classes, batch_size, base_lr, finetune):
    """Copy the net NAME of the zoo to the new FOLDER (default: NAME), made for your data.

    With --data the solver gets as many epochs as published, and a learning rate in proportion to the batch size. In a
    detector or segmenter the background is one of the classes. caffepy zoo lists the names.
    """
    from caffepy.cli.terminal import echo
    from caffepy.zoo import catalogue, copying

    entry = catalogue.find(name)
    folder = folder or entry.name.split("/")[-1]
    wishes = copying.Wishes(data, classes or 0, batch_size or 0, base_lr or 0, finetune)
    copying.copy(entry, folder, wishes)
    echo(f"{folder} is made. To train it: caffepy train --solver {folder}/{entry.solver}")
