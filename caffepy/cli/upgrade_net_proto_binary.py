"""caffepy upgrade-net-proto-binary: an old caffemodel in the current format."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@options.max_memory
@options.setting()
def command(source, target):
    """Upgrade the binary net IN (a .caffemodel) of any age and write it to OUT. Exit status 1 if fields were lost."""
    from caffepy.cli.terminal import start_logging
    from caffepy.proto.tools import read_binary_net, upgrade_net_file, write_binary

    start_logging()
    upgrade_net_file(read_binary_net(source), source, target, write_binary)
