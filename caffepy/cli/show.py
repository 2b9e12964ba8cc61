"""caffepy show: what is in a file."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("file")
@options.max_memory
@options.setting(of_net=False)
def command(file):
    """Print what is in FILE: a caffemodel or solver state (binary or HDF5), a mean file, a net or solver definition.

    With --set: the definition as it will run, as plain prototxt; a solver holds its nets where something of them is
    set.
    """
    from caffepy.cli.terminal import echo
    from caffepy.proto import settings
    from caffepy.show.describe import as_it_runs, describe

    echo(as_it_runs(file) if settings.current().words else describe(file))
