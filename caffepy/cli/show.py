"""caffepy show: what is in a file."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("file")
@options.max_memory
def command(file):
    """Print what is in FILE: a caffemodel or solver state (binary or HDF5), a mean file, a net or solver definition."""
    from caffepy.cli.terminal import echo
    from caffepy.show.describe import describe

    echo(describe(file))
