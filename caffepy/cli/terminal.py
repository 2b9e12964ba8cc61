"""What a command shows while it works: `caffepy.show.logs`, and a bar that follows a solver."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, cast

import click

from caffepy.show.logs import Deaf, Lines, LogFile, also_into, printable, progress, start_logging

if TYPE_CHECKING:
    from rich.console import RenderableType

    from caffepy.solver.solver import Solver
    from caffepy.solver.training import Training

__all__ = ["also_into", "echo", "is_terminal", "progress", "show", "start_logging", "training"]


def echo(text: str, err: bool = False, before: str = "") -> None:
    """Print a line of a command's result or, with `err`, of its complaints; `before` is red on a terminal."""
    stream = Deaf(sys.stderr if err else sys.stdout)
    if before and stream.isatty() and not os.environ.get("NO_COLOR"):
        before = click.style(before, fg="red", bold=True)
    click.echo(before + printable(text), file=cast(IO[str], stream))


@contextmanager
def writing() -> Iterator[Callable[[str], None]]:
    """In the block a function that shows a piece of text at once, without a line break; one comes at the end."""
    stream = Deaf(sys.stdout)

    def write(piece: str) -> None:
        click.echo(printable(piece), file=cast(IO[str], stream), nl=False)

    try:
        yield write
    finally:
        click.echo(file=cast(IO[str], stream))


def is_terminal() -> bool:
    """Whether results are read by a person, not by a file or another program."""
    return Deaf(sys.stdout).isatty()


def show(*parts: RenderableType) -> None:
    """Print tables and texts of rich on the terminal."""
    from rich.console import Console

    console = Console(file=cast(IO[str], Deaf(sys.stdout)))
    for part in parts:
        console.print(part, markup=False, highlight=False)


def _state_of(solver: Training) -> str:
    """Loss, learning rate and the last test, in a few words; of a device that computes behind us no loss."""
    loss = solver.smoothed_loss
    words = [f"loss {loss.value:.4g}"] if loss.is_known(solver.engine) else []
    words += [f"lr {solver.rate:.3g}", *(f"{name} {score:.4g}" for name, score in list(solver.scores.items())[:2])]
    return "  ".join(words)


@contextmanager
def training(handler: Lines, solver: Solver, file: LogFile | None = None) -> Iterator[None]:
    """A progress bar that follows a solver, and a log file from its first iteration on: what is wrong leaves none."""
    from caffepy.solver.events import Listener, listening

    class Bar(Listener):
        def update(self, solver: Training) -> None:
            self.stop(solver)
            advance(solver.iter, partial(_state_of, solver))

        def stop(self, solver: Training) -> None:
            if file is not None:
                file.open()

    with progress(handler, "training", solver.param.max_iter or None, solver.iter) as advance, listening(solver, Bar()):
        yield
