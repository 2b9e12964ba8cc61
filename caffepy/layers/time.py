"""Time: how long a batch takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


class Stopwatch:
    """Seconds a batch, from the first to the last of a test: a meter, as `caffepy.solver.meters` has them."""

    def __init__(self) -> None:
        self.seconds, self.batches = 0.0, 0
        self._last: float | None = None

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.seconds, self.batches = self.seconds + now - self._last, self.batches + 1
        self._last = now

    def value(self) -> float:
        return self.seconds / max(1, self.batches)

    def merge(self, other: Stopwatch) -> None:
        self.seconds += other.seconds
        self.batches += other.batches


@register("Time")
class Time(Layer):
    """Seconds since its forward pass before this, 0 in the first. A test has the mean over its batches, but the first.

    Any number of bottoms, none too, which are not looked at. No gradient.
    """

    num_bottom = (0, None)
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._last: float | None = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        now = time.perf_counter()
        top[0].data[...] = 0.0 if self._last is None else now - self._last
        self._last = now

    def meter(self, top_index: int) -> Any:
        return Stopwatch()
