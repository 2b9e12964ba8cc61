"""The progress bar of `fit`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from caffepy.solver.events import Listener, listening
from caffepy.solver.solver import Solver
from caffepy.solver.training import Training


class FitBar(Listener):
    """Counts iterations and shows the loss; each `step` of the solver is an epoch."""

    def __init__(self, bar: Any, epochs: int, steps: int):
        self.bar = bar
        self.task = bar.add_task("", total=epochs * steps, epoch=0, epochs=epochs, loss=0.0)
        self.epoch = 0

    def start(self, solver: Training) -> None:
        self.epoch += 1
        self.bar.update(self.task, epoch=self.epoch)

    def update(self, solver: Training) -> None:
        self.bar.update(self.task, advance=1, loss=float(solver.smoothed_loss.value))


@contextmanager
def shown(solver: Solver, epochs: int, steps: int, wanted: bool | None) -> Iterator[None]:
    """Within the block a bar shows the iterations of all epochs, of `steps` each; by default on a terminal."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.4g}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar, listening(solver, FitBar(bar, epochs, steps)):
        yield
