"""caffepy convert-imageset: listed pictures, or a folder a class, to databases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from caffepy.cli import options

if TYPE_CHECKING:
    from caffepy.data.pictures.imageset import ImagesetConverter
    from caffepy.data.sources.lists import ListEntry

log = logging.getLogger("caffepy.convert_imageset")
_MOST_SHOWN = 10
"""So many unreadable files are named."""


class _Gflags(click.Command):
    """Switches may also be written as gflags has them: --gray=true, --shuffle=false, --noshuffle."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {o for p in self.params if isinstance(p, click.Option) and p.is_flag for o in p.opts}
        kept = []
        for arg in args:
            name, _, value = arg.partition("=")
            if arg.startswith("--no") and f"--{arg[4:]}" in switches:
                name, value = f"--{arg[4:]}", "false"
            if name in switches and value.lower() in ("true", "1"):
                kept.append(name)
            elif name in switches and value.lower() in ("false", "0"):
                kept = [other for other in kept if other != name]  # the last word counts
            else:
                kept.append(arg)
        return super().parse_args(ctx, kept)


class _Shares(click.ParamType):
    """Shares of a split, that add up to 1: `0.8,0.1,0.1`."""

    name = "shares"

    def convert(self, value, param, context):
        if not isinstance(value, str):
            return value
        try:
            shares = [float(part) for part in value.split(",")]
        except ValueError:
            shares = []
        if not 1 <= len(shares) <= 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            self.fail(f'"{value}" is no split: give one to three shares that add up to 1, such as 0.8,0.1,0.1')
        return shares


@click.command(cls=_Gflags)
@click.argument("root")
@click.argument("list_file", metavar="[LIST_FILE]")
@click.argument("db", required=False, metavar="DB")
@click.option("--split", type=_Shares(), default="1", help="Of a folder: shares to train, validate and test on.")
@click.option("--gray", is_flag=True, help="Store gray pictures.")
@click.option("--shuffle", is_flag=True, help="Mix the list first (pictures of a folder are always mixed).")
@click.option("--seed", type=int, help="Mix the same way every time (of a folder: 0).")
@options.backend
@click.option("--resize", type=click.IntRange(min=1), help="Resize to this width and height.")
@click.option("--resize-width", default=0, help="Resize to this width; 0 keeps it.")
@click.option("--resize-height", default=0, help="Resize to this height; 0 keeps it.")
@click.option("--check-size", is_flag=True, help="Fail at a picture of another size than the first.")
@click.option("--encoded", is_flag=True, help="Store pictures encoded, as files hold them.")
@click.option("--encode-type", default="", help="Encode as this type: png, jpg, ... (default: the file's own).")
@click.option(
    "--max-errors",
    type=click.IntRange(min=0),
    help="Fail after more unreadable files than this (default: skip any number).",
)
@options.max_memory
def command(
    root, list_file, db, split, gray, shuffle, seed, backend, resize, resize_width, resize_height, check_size, encoded,
    encode_type, max_errors,
):  # fmt: skip
    """Convert pictures to databases.

    ROOT DB: each folder in ROOT is a class; the new folder DB gets train_lmdb and, with --split, val_lmdb and
    test_lmdb, every class in each in its share, labels.txt and mean.binaryproto.

    ROOT LIST_FILE DB: the pictures that LIST_FILE names (path, then a blank, tab or comma, then label) to one
    database. ROOT is put in front of each path as it stands, so it ends with a slash. Files that cannot be read are
    reported and skipped.
    """
    import random

    from caffepy.cli import terminal
    from caffepy.data.pictures.imageset import ImagesetConverter
    from caffepy.data.sources.databases import create_database
    from caffepy.data.sources.lists import read_list

    handler = terminal.start_logging()
    if bool(resize_width) != bool(resize_height) or min(resize_width, resize_height) < 0:
        raise click.UsageError("--resize-width and --resize-height are given together, both positive")
    if resize and resize_width:
        raise click.UsageError("--resize is the width and the height: keep it, or the other two")
    size = (resize_height or resize, resize_width or resize) if resize_height or resize else None
    convert = ImagesetConverter(root if db else f"{root}/", gray, size, encoded, encode_type, check_size)
    if db is None:
        _convert_folder(root, list_file, split, seed or 0, backend, convert, max_errors, handler)
        return
    if len(split) > 1:
        raise click.UsageError("--split is for a folder of classes: caffepy convert-imageset FOLDER DB --split ...")
    entries = read_list(list_file)
    if shuffle:
        log.info("Shuffling data")
        random.Random(seed).shuffle(entries)
    log.info("A total of %d images.", len(entries))
    _check_there(root, entries, list_file)
    with create_database(db, backend) as put, terminal.progress(handler, "converting", len(entries)) as advance:
        log.info("Opened %s %s", backend, db)
        _write(entries, convert, put, advance, max_errors, list_file)


def _convert_folder(root, db, split, seed, backend, convert, max_errors, handler) -> None:
    from pathlib import Path

    from caffepy.cli import terminal
    from caffepy.data.pictures import folders
    from caffepy.data.pictures.mean import mean_image, write_mean
    from caffepy.data.sources.databases import create_database, open_database
    from caffepy.errors import DataError
    from caffepy.temporary import temporary_folder

    path = Path(db)
    if path.exists():
        raise DataError("there is something of this name already", where=db, hint="Choose another name, or remove it.")
    names, entries = folders.classes_in(root)
    log.info("A total of %d images in %d classes.", len(entries), len(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path) as temporary:
        for name, part in zip(("train", "val", "test"), folders.parted(entries, split, seed)):
            database = temporary / f"{name}_{backend}"
            shown = f"{db}/{database.name}"
            if not part:
                raise DataError(
                    f"no picture is left for {shown}", where=root, hint="Give more pictures, or no --split."
                )
            with create_database(database, backend) as put, terminal.progress(handler, name, len(part)) as advance:
                log.info("Opened %s %s", backend, shown)
                _write(part, convert, put, advance, max_errors, root)
        (temporary / "labels.txt").write_text("".join(f"{name}\n" for name in names), errors="surrogateescape")
        try:
            write_mean(
                mean_image(open_database(temporary / f"train_{backend}", backend)), temporary / "mean.binaryproto"
            )
        except DataError:
            log.warning("No mean.binaryproto: the pictures have several sizes. --resize 256 gives them one.")
        temporary.rename(path)
    terminal.echo(f"{db} is made. A net for it: caffepy new alexnet my_net --data {db}")


def _check_there(root: str, entries: Sequence[ListEntry], list_file: str) -> None:
    """Raise DataError, once, where there is not one of the files."""
    import os

    from caffepy.data.sources.lists import missing_slash
    from caffepy.errors import DataError
    from caffepy.files import near_names

    if any(os.path.exists(root + entry.name) for entry in entries):
        return
    first = root + entries[0].name
    raise DataError(
        f"none of the files is there, the first is {first}; no database was made",
        where=list_file,
        hint=missing_slash(root, entries[0].name) or near_names(first) or "ROOT is put in front of each path.",
    )


def _write(
    entries: Sequence[ListEntry],
    convert: ImagesetConverter,
    put: Callable[[bytes, bytes], object],
    advance: Callable[[int], None],
    max_errors: int | None,
    source: str,
) -> None:
    """Put all pictures that can be read; DataError for more than `max_errors` that cannot, and for none that can."""
    from caffepy.data.pictures.imageset import SizeError
    from caffepy.errors import DataError

    count = errors = 0
    for number, entry in enumerate(entries):
        try:
            put(*convert(entry, number))
        except SizeError:
            raise
        except DataError as error:
            errors += 1
            if errors <= _MOST_SHOWN:
                log.error("%s: %s", error.where, error.message)
            if max_errors is not None and errors > max_errors:
                raise DataError(
                    f"more than {max_errors} file(s) cannot be read; no database was made",
                    where=source,
                    hint="The files are named above. Allow more with --max-errors.",
                ) from None
            continue
        count += 1
        if count % 1000 == 0:
            log.info("Processed %d files.", count)
        advance(number + 1)
    if not count:
        raise DataError("none of the files can be read; no database was made", where=source)
    if count % 1000:
        log.info("Processed %d files.", count)
    if errors:
        log.warning("Skipped %d of %d files.", errors, len(entries))
