"""Curves of a training for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from caffepy.errors import MissingExtraError
from caffepy.solver.events import Listener
from caffepy.solver.meters import numbers
from caffepy.solver.objectives.multi_task import MultiTask
from caffepy.solver.training import Training


class TensorBoard(Listener):
    """Writes, whenever the solver displays, `train/loss`, `train/learning_rate` and the net's outputs, of several tasks
    their losses, weights, gradient norms and cosines (at every iteration where nothing is displayed); and, after each
    test, its outputs as `test/NAME`.

    A run that is resumed goes on in the same curves: what was written ahead of it is withdrawn.
    """

    def __init__(self, folder: str, tasks: MultiTask | None = None):
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError:
            raise MissingExtraError("tensorboard", "tensorboard", "tensorboard_dir") from None
        self._events, self._summaries = event_pb2, summary_pb2
        self._folder, self._tasks, self._make = folder, tasks, EventFileWriter
        self._writer: Any = None

    def start(self, solver: Training) -> None:
        if self._writer is None and solver.root:
            self._writer = self._make(self._folder)
            log = self._events.SessionLog(status=self._events.SessionLog.START)
            self._writer.add_event(self._events.Event(wall_time=time.time(), step=solver.iter, session_log=log))

    def display(self, solver: Training) -> None:
        found = [("loss", solver.smoothed_loss.value), ("learning_rate", solver.rate)]
        for name, _, value in solver.net.output_values():
            found += [(key, number) for key, number in numbers(name, value) if key != "loss"]
        self._write(solver, "train/", found if solver.iter else [pair for pair in found if pair[0] != "learning_rate"])

    def update(self, solver: Training) -> None:
        if self._tasks and (solver.iter - 1) % (solver.param.display or 1) == 0:
            self._write(solver, "tasks/", self._tasks.curves())

    def test(self, solver: Training) -> None:
        self._write(solver, "test/", solver.scores.items())

    def snapshot(self, solver: Training) -> None:
        self._flush()

    def stop(self, solver: Training) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _write(self, solver: Training, place: str, found: Iterable[tuple[str, float]]) -> None:
        if self._writer is None:
            return
        values = [self._summaries.Summary.Value(tag=place + name, simple_value=float(value)) for name, value in found]
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=solver.iter, summary=summary))
