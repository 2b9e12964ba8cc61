"""caffepy upgrade-solver-proto-text: an old solver definition in the current format."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@options.max_memory
@options.setting(of_net=False)
def command(source, target):
    """Upgrade the solver definition IN, with its old `solver_type`, and write it to OUT."""
    from caffepy.cli.terminal import start_logging
    from caffepy.proto.text import read_solver
    from caffepy.proto.tools import log, write_text

    start_logging()
    write_text(read_solver(source), target)
    log.info("Wrote upgraded SolverParameter text proto to %s", target)
