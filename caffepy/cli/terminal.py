"""What a command shows while it works: `caffepy.show.logs`, and a bar that follows a solver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from caffepy.show.logs import Lines, progress, start_logging

if TYPE_CHECKING:
    from caffepy.solver.solver import Solver

__all__ = ["progress", "start_logging", "training"]


@contextmanager
def training(handler: Lines, solver: Solver) -> Iterator[None]:
    """A progress bar that follows a solver."""
    from caffepy.solver.events import Listener, listening

    class Bar(Listener):
        def update(self, solver: Solver) -> None:
            advance(solver.iter)

    with progress(handler, "training", solver.param.max_iter or None, solver.iter) as advance, listening(solver, Bar()):
        yield
