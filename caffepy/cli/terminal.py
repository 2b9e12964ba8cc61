"""What a command shows while it works: `caffepy.show.logs`, and a bar that follows a solver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from caffepy.show.logs import Lines, printable, progress, start_logging
from caffepy.solver.training import Training

if TYPE_CHECKING:
    from caffepy.solver.solver import Solver

__all__ = ["echo", "progress", "start_logging", "training"]


def echo(text: str, err: bool = False) -> None:
    """Print a line of a command's result or, with `err`, of its complaints."""
    click.echo(printable(text), err=err)


@contextmanager
def training(handler: Lines, solver: Solver) -> Iterator[None]:
    """A progress bar that follows a solver."""
    from caffepy.solver.events import Listener, listening

    class Bar(Listener):
        def update(self, solver: Training) -> None:
            advance(solver.iter)

    with progress(handler, "training", solver.param.max_iter or None, solver.iter) as advance, listening(solver, Bar()):
        yield
