"""A test: forward passes over batches, and what they come to. The solver, `caffepy test` and `evaluate` share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from caffepy import passes
from caffepy.layers.batches import BatchLayer
from caffepy.net.blob import Array
from caffepy.net.net import Net
from caffepy.solver import meters
from caffepy.solver.meters import Mean, Meter, Value, meter_for, numbers

Scores = dict[str, float]
"""A number for each output, by its name."""


class Output(NamedTuple):
    name: str
    weight: float
    """In the loss."""
    value: Value


class Results(NamedTuple):
    weight: float
    """Of all batches together: their number, where each weighs 1."""
    loss: float
    """The mean of the batches' losses; 0 without a batch."""
    outputs: list[Output]
    batches: int = 0
    """How many."""

    def scores(self) -> Scores:
        """One number each: the mean of an output that has several. Numbers with names have theirs, `output/name`."""
        return dict(_scores(self.outputs))


def _scores(outputs: Iterable[Output]) -> Iterator[tuple[str, float]]:
    for output in outputs:
        if not isinstance(output.value, np.ndarray):
            yield from numbers(output.name, output.value)
        elif output.value.size:
            yield output.name, float(output.value.mean())


class Meters:
    """A meter for each output of a net, and the mean of the loss.

    With `single` there is no mean of outputs of several values.
    """

    def __init__(self, net: Net, single: bool = False):
        meters.check()
        self.net, self.single = net, single
        self._meters: dict[str, tuple[Meter, int, int]] = {}  # with the indices of layer and top
        self._loss: Array = 0.0
        self.weight = 0.0
        self.batches = 0

    def add(self, loss: Array, weight: float = 1) -> None:
        """Take in what the net has just computed."""
        if not self.weight:
            self._meters = dict(self._fitting())
        self._loss = self._loss + weight * self._double(loss)
        self.weight += weight
        self.batches += 1
        for meter, layer, top in self._meters.values():
            meter.add(self.net.nodes[layer].top[top], self.net.nodes[layer].bottom, weight)

    def results(self) -> Results:
        weights = self.net.blob_loss_weights
        outputs = [Output(name, weights.get(name, 0.0), meter.value()) for name, (meter, _, _) in self._meters.items()]
        return Results(self.weight, float(self._loss) / self.weight if self.weight else 0.0, outputs, self.batches)

    def _fitting(self) -> Iterator[tuple[str, tuple[Meter, int, int]]]:
        """Meters for the outputs as the first batch has shaped them."""
        for name in self.net.outputs:
            layer, top = _maker(self.net, name)
            meter = meter_for(self.net.layers[layer], top)
            if not (self.single and isinstance(meter, Mean) and self.net.engine_blobs[name].count != 1):
                yield name, (meter, layer, top)

    def _double(self, loss: Array) -> Array:
        """In double precision, on a device still there."""
        engine = self.net.engine
        known = engine.known(loss)
        return engine.xp.astype(loss, engine.xp.float64) if known is None else known


def _maker(net: Net, name: str) -> tuple[int, int]:
    """The layer that writes a blob last, and which of its tops it is."""
    layer = max(i for i, node in enumerate(net.nodes) if name in node.top_names)
    return layer, net.nodes[layer].top_names.index(name)


def _filled(net: Net) -> float:
    """How full the batch is that the net has just computed."""
    return min((layer.filled for layer in net.layers if isinstance(layer, BatchLayer)), default=1.0)


def test(net: Net, batches: Iterable[float], single: bool = False) -> Results:
    """What the net's outputs come to over some batches; with `single` there is no mean of outputs of several values.

    `batches` says for each batch how often a mean counts it. Where it is a generator, what it does before it yields
    comes before the batch's forward pass, for example to fill the inputs, and what it does then behind it.
    """
    executor, found = passes.of(net), Meters(net, single)
    for weight in batches:
        with net.lock:
            loss = executor.forward()
            found.add(loss, weight * _filled(net))
    net.settle()
    return found.results()
