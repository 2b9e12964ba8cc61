"""Curves of a training for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from caffepy.errors import MissingExtraError
from caffepy.solver import tensorboard_views as views
from caffepy.solver.events import Listener
from caffepy.solver.meters import numbers
from caffepy.solver.objectives.multi_task import MultiTask
from caffepy.solver.training import Training


class TensorBoard(Listener):
    """Writes, whenever the solver displays, `train/loss`, `train/learning_rate` and the net's outputs, of several tasks
    their losses, weights, gradient norms and cosines (at every iteration where nothing is displayed); and, after each
    test, its outputs as `test/NAME`. The net's graph and the solver's settings at the start; at each test (without
    tests at every tenth display) histograms of weights and gradients, the filters of first layers, and the last test
    batch's pictures with label and prediction.

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
            if not solver.iter:
                self._add(solver, graph_def=views.graph(solver.net))
                self._add(solver, summary=views.settings(solver.param))

    def display(self, solver: Training) -> None:
        found = [("loss", solver.smoothed_loss.value), ("learning_rate", solver.rate)]
        for name, _, value in solver.net.output_values():
            found += [(key, number) for key, number in numbers(name, value) if key != "loss"]
        self._write(solver, "train/", found if solver.iter else [pair for pair in found if pair[0] != "learning_rate"])

    def gradients(self, solver: Training) -> None:
        every = solver.param.test_interval or 10 * solver.param.display
        if self._writer is None or not every or solver.iter % every:
            return
        value, found = self._summaries.Summary.Value, []
        for param in solver.net.learnable_params:
            found.append(value(tag=f"weights/{param.blob.name}", histo=views.histogram(param.blob.host())))
            if param.blob.rows is None:
                gradient = solver.net.engine.to_host(param.blob.diff)
                found.append(value(tag=f"gradients/{param.blob.name}", histo=views.histogram(gradient)))
        if views.pictures_possible():
            found += [value(tag=f"filters/{name}", image=views.picture(p)) for name, p in views.filters(solver.net)]
        self._add(solver, summary=self._summaries.Summary(value=found))

    def update(self, solver: Training) -> None:
        if self._tasks and (solver.iter - 1) % (solver.param.display or 1) == 0:
            self._write(solver, "tasks/", self._tasks.curves())

    def test(self, solver: Training) -> None:
        self._write(solver, "test/", solver.scores.items())
        if self._writer is not None and solver.scores and views.pictures_possible():
            shown = [views.predictions(net) for net in solver.test_nets]
            values = [self._summaries.Summary.Value(tag=f"predictions/{i}", image=views.picture(pixels))
                      for i, pixels in enumerate(shown) if pixels is not None]  # fmt: skip
            self._add(solver, summary=self._summaries.Summary(value=values))

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
        self._add(solver, summary=summary)

    def _add(self, solver: Training, **what: Any) -> None:
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=solver.iter, **what))
