"""Meters: what becomes of an output over all batches of a test.

A layer may bring a meter for its top (`Layer.meter`), or one may be registered for its type; all other outputs get the
mean over the batches, which is what Caffe prints.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, layer_class
from caffepy.plugins import Registry

Value = float | np.ndarray | Mapping[str, float]
"""One number, an array of them, or numbers with names."""


class Meter:
    """Base of all meters: counts or scores are added up batch by batch, and the metric is computed once, at the end.

        @meter("RootMeanSquare")
        class RootMeanSquare(Meter):
            def __init__(self, layer, top):
                self.sum, self.count = 0.0, 0

            def add(self, top, bottom, weight):
                difference = bottom[0].host() - bottom[1].host()
                self.sum += float((difference**2).sum())
                self.count += difference.size

            def value(self):
                return math.sqrt(self.sum / self.count)

            def merge(self, other):
                self.sum += other.sum
                self.count += other.count

    It is made for the top of index `top` of `layer`, anew for each test.
    """

    def __init__(self, layer: Layer, top: int): ...

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        """Take in a batch: the output and what its layer has made it from. A mean counts the batch `weight` times."""
        raise NotImplementedError

    def value(self) -> Value:
        """The metric over all that was added, of which there is some."""
        raise NotImplementedError

    def merge(self, other: Any) -> None:
        """Take in all that was added to another meter of this class, in another process or for another part."""
        raise NotImplementedError


_registry: Registry[type[Meter]] = Registry("meter of layer type", "meters")


def meter(layer_type: str, *, replace: bool = False) -> Callable[[type[Meter]], type[Meter]]:
    """Class decorator: outputs of layers of this type get this meter, with `replace` instead of another's."""

    def decorate(cls: type[Meter]) -> type[Meter]:
        if not (isinstance(cls, type) and issubclass(cls, Meter)):
            raise ConfigError(
                f'the meter of layer type "{layer_type}" is no caffepy.solver.meters.Meter: '
                f"{getattr(cls, '__qualname__', cls)}",
                hint="Derive it from that.",
            )
        _registry.register(layer_type, cls, replace=replace)
        return cls

    return decorate


def check() -> None:
    """Raise ConfigError, at file and line, for a meter of a layer type that there is not."""
    _registry.complete()
    for layer_type, cls in _registry.items():
        try:
            layer_class(layer_type)
        except ConfigError as error:
            raise error.at(f"{_place(cls)}: meter {cls.__qualname__}") from None


def _place(cls: type) -> str:
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):  # written at a prompt
        return cls.__module__


def meter_for(layer: Layer, top: int) -> Meter:
    """A new meter for the layer's top of this index: its own, its type's, or else the mean."""
    own = layer.meter(top)
    return own if own is not None else _registry.get(layer.type, Mean)(layer, top)


class Mean(Meter):
    """The mean of each value over the batches, in double precision. It stays on its device until it is asked for."""

    def __init__(self, layer: Layer, top: int):
        self.engine = layer.engine
        self.total: Array = 0.0
        self.weight = 0.0

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        xp = self.engine.xp
        if self.weight and self.total.shape != top.shape:
            raise ShapeError(
                f'the output "{top.name}" has shape {top.shape} in one batch and {tuple(self.total.shape)} in the one '
                "before",
                hint="A test takes the mean over batches: let a Silence or a Reduction read this blob.",
            )
        self.total = self.total + weight * xp.astype(top.data, xp.float64)
        self.weight += weight

    def value(self) -> np.ndarray:
        return self.engine.to_host(self.total) / self.weight

    def merge(self, other: Mean) -> None:
        self.total = self.total + other.total
        self.weight += other.weight


def numbers(name: str, value: Value) -> Iterator[tuple[str, float]]:
    """Each number of a value with the name it is known by: `name`, or `name/key` where the value has names."""
    if isinstance(value, Mapping):
        yield from ((f"{name}/{key}", float(number)) for key, number in value.items())
    else:
        yield from ((name, number) for number in np.ravel(value).tolist())
