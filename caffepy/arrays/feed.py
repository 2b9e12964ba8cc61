"""Batches of arrays for the forward passes of a solver's net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

from caffepy import rng
from caffepy.arrays.columns import RowColumn
from caffepy.arrays.evaluate import Logs, logs_of
from caffepy.arrays.inputs import fill, length_of, sizes_kept
from caffepy.data.prefetch import Prefetcher
from caffepy.net.net import Net
from caffepy.net.observer import Observer
from caffepy.solver.testing import Meters

_AHEAD = 4
"""Batches of a dataset that are made ahead."""


class Feed(Observer):
    """Fills the net's inputs with the next batch before each forward pass, and measures its outputs behind it."""

    def __init__(self, net: Net, arrays: Mapping[str, np.ndarray], size: int, order: np.random.Generator | None):
        self.net, self.arrays = net, arrays
        self.batches = rows(length_of(arrays), size, order, self._begin)
        self.meters = Meters(net, single=True)
        self._items = 0
        made = any(isinstance(values, RowColumn) for values in arrays.values())
        self._ahead = Prefetcher(self._make, None, _AHEAD) if made else None

    def _make(self, state: None, recycled: Any) -> tuple[dict[str, np.ndarray], None]:
        """The next batch."""
        batch = next(self.batches)
        return {name: values[batch] for name, values in self.arrays.items()}, state

    @property
    def data_wait(self) -> float:
        """Seconds that forward passes have waited for records of a dataset, which a thread makes ahead."""
        return self._ahead.wait if self._ahead else 0.0

    def _begin(self, epoch: int) -> None:
        for values in self.arrays.values():
            if isinstance(values, RowColumn):
                values.rows.epoch = epoch

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the block the net is fed; at the end its inputs have their shapes of before again."""
        self.net.observers.append(self)
        try:
            with sizes_kept(self.net):
                yield
        finally:
            self.net.observers.remove(self)
            if self._ahead:
                self._ahead.close()

    def means(self) -> Logs:
        """The mean loss and outputs of all items since the last call; empty if there were none."""
        measured, self.meters = self.meters, Meters(self.net, single=True)
        return logs_of(measured.results()) if measured.weight else {}

    def before_pass(self, layers: Sequence[int], backward: bool) -> None:
        if not backward:
            batch = self._ahead.next() if self._ahead else self._make(None, None)[0]
            fill(self.net, batch)
            self._items = length_of(batch)

    def after_pass(self, layers: Sequence[int], backward: bool) -> None:
        if not backward:
            self.meters.add(_loss(self.net), self._items)


def rows(
    length: int, size: int, order: np.random.Generator | None, begin: Callable[[int], None] = lambda epoch: None
) -> Iterator[np.ndarray]:
    """Indices of batch after batch, without end; each round goes through all items, in a new order if there is one."""
    for epoch in count():
        begin(epoch)
        indices = np.arange(length) if order is None else order.permutation(length)
        for start in range(0, length, size):
            yield indices[start : start + size]


def new_order(random: rng.Stream, shuffle: bool) -> np.random.Generator | None:
    """What orders the items anew in each round, seeded by the next number of a stream; None: they stay in order."""
    return rng.mt19937(random.draw()) if shuffle else None


def _loss(net: Net) -> Any:
    """The weighted sum of the losses that the net has just computed."""
    xp = net.engine.xp
    return sum(
        weight * xp.sum(blob.data)
        for node in net.nodes
        for blob, weight in zip(node.top, node.layer.loss_weights)
        if weight
    )
