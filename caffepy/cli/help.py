"""caffepy help: the help of a command, for who does not write --help."""

from __future__ import annotations

import click


@click.command(help="Show the help of a command, or the list of commands.")
@click.argument("command_name", metavar="[COMMAND]", required=False)
@click.pass_context
def command(ctx, command_name):
    from caffepy.cli.terminal import echo

    root = ctx.find_root()
    group = root.command
    if not command_name:
        echo(group.get_help(root))
        return
    name, found, _ = group.resolve_command(root, [command_name])
    echo(found.get_help(click.Context(found, info_name=name, parent=root)))
