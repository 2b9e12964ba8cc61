"""caffepy convert-ratings: a file of ratings or clicks to tables."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("train")
@click.argument("test", required=False, default="")
@click.option("--output", required=True, help="The folder for train.h5 and test.h5.")
@click.option("--split", default="", help="Without TEST: random:0.2, leave-last:1 (of each user) or time:0.2.")
@click.option("--folds", default=0, help="Without TEST: so many pairs of files, in the folders fold1, fold2, ...")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random splits.")
@click.option("--columns", default="", help="What columns are called: user=u,item=i,rating=r,timestamp=t.")
@click.option("--scale", default="", help="The lowest and the highest rating that is right: 1:5.")
@click.option("--skip-bad", is_flag=True, help="Leave out bad lines and count them, instead of stopping at the first.")
@click.option("--items", default="", help="A file about items: titles, genres, ...")
@click.option("--users", default="", help="A file about users.")
@options.max_memory
def command(train, test, output, split, folds, seed, columns, scale, skip_bad, items, users):
    """Convert the ratings in TRAIN, and TEST, to the tables train.h5 and test.h5.

    Reads u.data and u1.base (tabs), ratings.dat (::), CSV by the names in its first line, and Parquet where pyarrow is
    installed. Without a rating column it reads clicks.
    """
    from caffepy.cli import terminal
    from caffepy.errors import ConfigError
    from caffepy.recommend.convert import Options, convert, parse_pair

    terminal.start_logging()
    named = {}
    for part in filter(None, columns.split(",")):
        key, mark, value = part.partition("=")
        if not mark:
            raise ConfigError(f'--columns "{part}" names no column', hint="Write user=u,item=i.")
        named[key] = value
    limits = parse_pair(scale, "--scale") if scale else None
    convert(train, test, output, Options(named, limits, skip_bad, split, folds, seed, items, users))
