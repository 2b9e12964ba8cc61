"""caffepy convert-cifar: CIFAR-10's binary batches to databases."""

from __future__ import annotations

import logging
import os

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.convert_cifar")


@click.command()
@click.argument("input_folder")
@click.argument("output_folder")
@click.argument("backend", type=options.choice(["lmdb", "leveldb"]), default="lmdb")
@options.max_memory
def command(input_folder, output_folder, backend):
    """Convert data_batch_1.bin .. 5 and test_batch.bin of INPUT_FOLDER to databases in OUTPUT_FOLDER.

    They are called cifar10_train_BACKEND and cifar10_test_BACKEND.
    """
    from caffepy.cli import terminal
    from caffepy.data.sources.cifar import RECORDS, read_batch
    from caffepy.data.sources.databases import create_database

    terminal.start_logging()
    parts = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    for part, files in parts.items():
        log.info("Writing %s data", {"train": "Training", "test": "Testing"}[part])
        with create_database(os.path.join(output_folder, f"cifar10_{part}_{backend}"), backend) as put:
            for number, file in enumerate(files):
                if part == "train":
                    log.info("Training Batch %d", number + 1)
                for i, datum in enumerate(read_batch(os.path.join(input_folder, file))):
                    put(b"%05d" % (number * RECORDS + i), datum.SerializeToString())
