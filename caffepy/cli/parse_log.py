"""caffepy parse-log: the numbers of a training log as two CSV files."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command("parse-log")
@click.argument("logfile")
@click.argument("output_dir", default=".")
@click.option("--delimiter", default=",", show_default=True, help="What stands between two columns.")
@click.option("--verbose", is_flag=True, help="Name the files.")
@options.max_memory
def command(logfile, output_dir, delimiter, verbose):
    """Write LOGFILE.train and LOGFILE.test into OUTPUT_DIR, as Caffe's parse_log.py does.

    Columns are NumIters, Seconds, LearningRate and the outputs of the net that is trained, or of the test nets.
    """
    import os

    from caffepy.cli import terminal
    from caffepy.show import history

    found = history.read_log(logfile)
    for kind, rows in (("train", found.train), ("test", found.test)):
        path = os.path.join(output_dir, f"{os.path.basename(logfile)}.{kind}")
        history.write_csv(rows, path, delimiter)
        if verbose:
            terminal.echo(f"Wrote {path}")
