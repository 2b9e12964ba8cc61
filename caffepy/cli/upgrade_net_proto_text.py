"""caffepy upgrade-net-proto-text: an old net definition in the current format."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@options.max_memory
@options.setting()
def command(source, target):
    """Upgrade the net definition IN of any age and write it to OUT. Exit status 1 if fields were lost."""
    from caffepy.cli.terminal import start_logging
    from caffepy.proto.caffe_pb2 import NetParameter
    from caffepy.proto.text import read
    from caffepy.proto.tools import upgrade_net_file, write_text

    start_logging()
    upgrade_net_file(read(source, NetParameter()), source, target, write_text)
