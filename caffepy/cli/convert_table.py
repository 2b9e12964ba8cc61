"""caffepy convert-table: a CSV file to tables for TableData."""

from __future__ import annotations

import logging

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.convert_table")


@click.command()
@click.argument("file")
@click.option(
    "--columns",
    required=True,
    help='What becomes of each column, NAME:KIND separated by ",", or a file with one a line. Kinds: category, '
    "bucket:N, dense, log, number, label:WORD, skip; NEW=NAME:KIND gives it another name.",
)
@click.option(
    "--output", default=".", show_default=True, help="The folder for train.h5 and, split, val.h5 and test.h5."
)
@click.option("--split", default="", help="Shares of the rows for train, val and test, 60,20,20, or train and test.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the permutation before the rows are split.",
)
@click.option("--delimiter", default=",", show_default=True, help="What stands between two columns.")
@options.max_memory
def command(file, columns, output, split, seed, delimiter):
    """Convert the CSV file FILE, gzipped or not, with or without a header, to tables.

    Categories and buckets become ids, whose vocabularies are kept in the tables; dense values are standardised. What
    is learned from the rows (vocabularies, quantiles, means) is learned from those of train alone.
    """
    from caffepy.cli import terminal
    from caffepy.data.tables import convert, splits
    from caffepy.data.tables.columns import parse
    from caffepy.data.tables.csv import read

    terminal.start_logging()
    specs = parse(columns)
    words = read(file, list(dict.fromkeys(spec.source for spec in specs)), delimiter)
    rows = splits.parts(split, len(words), seed)
    made = convert.convert(words, specs, rows)
    for path, (part, chosen) in zip(convert.write(output, made, rows), rows.items()):
        log.info("%s: %d rows for %s", path, len(chosen), part)
    for name, one in made.items():
        log.info("  %s: %s", name, f"{one.column.size} ids" if one.column.size else "numbers")
