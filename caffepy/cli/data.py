"""caffepy data: look into databases."""

from __future__ import annotations

import os

import click

from caffepy.cli import options


@click.group(invoke_without_command=True)
@click.pass_context
def command(context):
    """Look into databases."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command()
@click.argument("db")
@options.found_backend
@click.option("--sheet", help="Draw the first pictures to this file (.png, .jpg, ...).")
@click.option(
    "--images", type=click.IntRange(min=1), default=64, show_default=True, help="How many pictures the sheet shows."
)
@options.max_memory
def inspect(db, backend, sheet, images):
    """Read every record of DB: count, shapes and a histogram of labels; report what is damaged."""
    from caffepy.cli import terminal
    from caffepy.data import inspect as inspection
    from caffepy.data.pictures.image import encoder
    from caffepy.errors import DataError
    from caffepy.files import atomic_write, check_writable

    handler = terminal.start_logging()
    if sheet:
        check_writable(sheet)
        kind = os.path.splitext(sheet)[1] or "png"
        try:
            encoder(kind)
        except DataError as unknown:
            raise unknown.at(sheet) from None
    reader, backend = options.open_db(db, backend)
    with terminal.progress(handler, "reading", len(reader)) as advance:
        found = inspection.look(reader, images if sheet else 0, advance)
    terminal.echo(f"{db}: {found.count} records ({backend})")
    terminal.echo(f"kinds: {', '.join(f'{n} {kind}' for kind, n in found.kinds.most_common())}")
    for shape, count in found.shapes.most_common(10):
        terminal.echo(f"shape {'x'.join(map(str, shape))}: {count}")
    if len(found.shapes) > 10:
        terminal.echo(f"and {len(found.shapes) - 10} more shapes")
    _histogram(found.labels)
    if sheet and found.pictures:
        with atomic_write(sheet) as temporary, open(temporary, "wb") as file:
            file.write(inspection.sheet(found.pictures, kind))
        terminal.echo(f"{sheet}: the first {len(found.pictures)} pictures")
    for error in found.damaged[:10]:
        terminal.echo(f"damaged: {error.where}: {error.message}", err=True)
    if found.damaged:
        raise DataError(f"{len(found.damaged)} of {found.count} records are damaged", where=db)


def _histogram(labels, width: int = 40, rows: int = 50) -> None:
    """A line a label, in their order; of many labels a summary and the first `rows`."""
    from caffepy.cli import terminal

    order = sorted(labels.items(), key=lambda item: (item[0] is None, item[0] or 0))
    most = max(labels.values(), default=1)
    if len(order) > rows:
        counts = sorted(labels.values())
        terminal.echo(f"{len(order)} labels, {counts[0]} to {counts[-1]} records each")
        order = order[:rows]
    for label, count in order:
        bar = "#" * max(1, round(width * count / most))
        terminal.echo(f"label {'none' if label is None else label:>6}: {count:>8} {bar}")
