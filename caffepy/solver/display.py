"""Caffe's log lines of a training: the loss, the speed and the net's outputs, every `display` iterations."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from caffepy.solver.events import Listener
from caffepy.solver.meters import Value, numbers
from caffepy.solver.training import Training

log = logging.getLogger(__name__)


class Display(Listener):
    """Logs what `display` asks for."""

    def start(self, solver: Training) -> None:
        self._timer, self._timed_iter = time.perf_counter(), solver.iter

    def display(self, solver: Training) -> None:
        now = time.perf_counter()
        seconds, done = now - self._timer, solver.iter - self._timed_iter
        per_second = done / seconds if seconds else float(done)
        log.info(
            "Iteration %d (%.6g iter/s, %.6gs/%d iters), loss = %.6g",
            solver.iter, per_second, seconds, solver.param.display, solver.smoothed_loss.value,
        )  # fmt: skip
        self._timer, self._timed_iter = now, solver.iter
        for line in output_lines("Train", solver.net.output_values()):
            log.info(line)


def output_lines(kind: str, outputs: Iterable[tuple[str, float, Value]]) -> Iterator[str]:
    """Caffe's lines for outputs, of which name, loss weight and value are given: numbers are counted through."""
    lines = (line for name, weight, value in outputs for line in number_lines(name, weight, value))
    yield from (f"    {kind} net output #{i}: {line}" for i, line in enumerate(lines))


def number_lines(name: str, weight: float, value: Value) -> Iterator[str]:
    """`name = number` for each number of an output, and what it adds to the loss, if anything."""
    for key, number in numbers(name, value):
        loss = f" (* {weight:.6g} = {weight * number:.6g} loss)" if weight else ""
        yield f"{key} = {number:.6g}{loss}"
