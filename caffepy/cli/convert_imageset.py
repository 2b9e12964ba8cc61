"""caffepy convert-imageset: listed pictures to a database."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.convert_imageset")


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


@click.command(cls=_Gflags)
@click.argument("root")
@click.argument("list_file")
@click.argument("db")
@click.option("--gray", is_flag=True, help="Store gray pictures.")
@click.option("--shuffle", is_flag=True, help="Mix the list first.")
@click.option("--seed", type=int, help="Mix the same way every time.")
@options.backend
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
    root, list_file, db, gray, shuffle, seed, backend, resize_width, resize_height, check_size, encoded, encode_type,
    max_errors,
):  # fmt: skip
    """Convert the pictures that LIST_FILE names (path, blank, label) to the database DB.

    ROOT is put in front of each path as it stands, so it ends with a slash. Files that cannot be read are reported
    and skipped.
    """
    import random

    from caffepy.cli import terminal
    from caffepy.data.pictures.imageset import ImagesetConverter, SizeError
    from caffepy.data.sources.databases import create_database
    from caffepy.data.sources.lists import missing_slash, read_list
    from caffepy.errors import DataError

    handler = terminal.start_logging()
    if bool(resize_width) != bool(resize_height) or min(resize_width, resize_height) < 0:
        raise click.UsageError("--resize-width and --resize-height are given together, both positive")
    entries = read_list(list_file)
    if shuffle:
        log.info("Shuffling data")
        random.Random(seed).shuffle(entries)
    log.info("A total of %d images.", len(entries))
    size = (resize_height, resize_width) if resize_height else None
    convert = ImagesetConverter(root, gray, size, encoded, encode_type, check_size)
    count = errors = 0
    with create_database(db, backend) as put, terminal.progress(handler, "converting", len(entries)) as advance:
        log.info("Opened %s %s", backend, db)
        for number, entry in enumerate(entries):
            try:
                put(*convert(entry, number))
            except SizeError:
                raise
            except DataError as error:
                errors += 1
                log.error("%s: %s", error.where, error.message)
                if max_errors is not None and errors > max_errors:
                    raise DataError(
                        f"more than {max_errors} file(s) cannot be read; no database was made",
                        where=list_file,
                        hint="The files are named above. Allow more with --max-errors.",
                    ) from None
                continue
            count += 1
            if count % 1000 == 0:
                log.info("Processed %d files.", count)
            advance(number + 1)
        if not count:
            raise DataError(
                "none of the files can be read; no database was made",
                where=list_file,
                hint=missing_slash(root, entries[0].name),
            )
    if count % 1000:
        log.info("Processed %d files.", count)
    if errors:
        log.warning("Skipped %d of %d files.", errors, len(entries))
