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

    They are called cifar10_train_BACKEND and cifar10_test_BACKEND. The files may be gzipped (.bin.gz); of those that
    are not there the records are left out.
    """
    from caffepy.cli import terminal
    from caffepy.data.sources.cifar import RECORDS, read_batch
    from caffepy.data.sources.databases import create_database

    terminal.start_logging()
    parts = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    there = {file: path for files in parts.values() for file in files if (path := _path(input_folder, file))}
    if not there:
        there = {parts["train"][0]: os.path.join(input_folder, parts["train"][0])}  # which is then said to be missing
    for part, files in parts.items():
        if missing := [file for file in files if file not in there]:
            log.warning("Not there, left out: %s", ", ".join(missing))
        if len(missing) == len(files):
            continue
        log.info("Writing %s data", {"train": "Training", "test": "Testing"}[part])
        with create_database(os.path.join(output_folder, f"cifar10_{part}_{backend}"), backend) as put:
            for number, file in enumerate(files):
                if file in there:
                    if part == "train":
                        log.info("Training Batch %d", number + 1)
                    for i, datum in enumerate(read_batch(there[file])):
                        put(b"%05d" % (number * RECORDS + i), datum.SerializeToString())


def _path(folder: str, file: str) -> str:
    """That of the file, gzipped or not; "" where there is neither."""
    paths = [os.path.join(folder, file + end) for end in ("", ".gz")]
    return next(filter(os.path.exists, paths), "")
