"""Layer: shapes, forward, backward; and the registry that maps a `type:` to its class."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any, ClassVar

from caffepy.engine import Engine, default_engine
from caffepy.errors import CaffeError, ConfigError, ShapeError, did_you_mean
from caffepy.net import fillers
from caffepy.net.blob import Array, Blob
from caffepy.proto import caffe_pb2, dialects

Count = int | tuple[int, int | None]
"""How many blobs a layer takes: a number, or the least and the most (None: any number)."""

LayerClass = type["Layer"]

_registry: dict[str, type[Layer]] = {}


def register(name: str) -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator: `type: "name"` in a prototxt builds this class. A second registration replaces the first."""

    def decorate(cls: type[Layer]) -> type[Layer]:
        cls.type = name
        _registry[name] = cls
        return cls

    return decorate


@cache
def _import_all() -> None:
    package = importlib.import_module("caffepy.layers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"caffepy.layers.{module.name}")


def layer_types() -> list[str]:
    """All known values of `type:`, sorted."""
    _import_all()
    return sorted(_registry)


def layer_class(name: str) -> type[Layer]:
    _import_all()
    if not name:
        raise ConfigError("type is not set", hint='Say what the layer does: type: "Convolution", for example.')
    name = name if name in _registry else dialects.TYPES.get(name, name)
    if name not in _registry:
        fork = dialects.whose(name)
        hint = f"It is a layer of {fork}, which is not supported." if fork else did_you_mean(name, _registry)
        raise ConfigError(f'unknown layer type "{name}"', hint=hint)
    return _registry[name]


def create(param: caffe_pb2.LayerParameter, phase: int = caffe_pb2.TRAIN, engine: Engine | None = None) -> Layer:
    """The layer that `param` describes. It has no shapes and parameters before `set_up`."""
    return layer_class(param.type).form(param)(param, phase, engine)


class Layer:
    """Base of all layers.

    A subclass checks its parameters in `setup`, derives the tops' shapes in `reshape` and computes in `forward` and
    `backward`, with the array namespace `self.xp` and the kernels of `self.engine`. `backward` overwrites the
    gradients of bottoms and adds to those of parameters. The lists of blobs are the same objects in every call.
    """

    type: str = ""
    num_bottom: ClassVar[Count] = 1
    num_top: ClassVar[Count] = 1
    auto_top: ClassVar[bool] = False
    """Whether the net adds tops up to the least number where the definition names none."""
    shares_data: ClassVar[bool] = False
    """Whether tops are other names for the bottom's memory, so that the layer cannot run in place."""

    def __init__(self, param: caffe_pb2.LayerParameter, phase: int = caffe_pb2.TRAIN, engine: Engine | None = None):
        self.param = param
        self.name = param.name
        self.bottom_names = list(param.bottom)
        """The bottoms as the definition calls them, for messages: `param` has the tops of Splits put in between."""
        self.phase = phase
        self.engine = engine or default_engine()
        self.xp = self.engine.xp
        self.blobs: list[Blob] = []
        self.param_propagate_down: list[bool] = []
        """Which parameters need a gradient; the net switches off those with a zero `lr_mult`."""
        self.loss_weights: list[float] = []
        self._refused: dict[tuple[int, ...], tuple[Array, Callable[[int, float], CaffeError]]] = {}

    # What a layer defines

    @classmethod
    def form(cls, param: caffe_pb2.LayerParameter) -> LayerClass:
        """The class that computes what `param` asks for, where Caffes give one type to several layers."""
        return cls

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Check parameters and make `self.blobs`. Called once, before the first `reshape`."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Check the bottoms' shapes, shape the tops and allocate workspaces. Called whenever a shape changed."""
        raise NotImplementedError

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        raise NotImplementedError

    def link(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Let tops that are other names of a bottom's memory be so; for most layers nothing."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Set bottom gradients where `propagate_down`, add to the gradients of parameters."""
        if any(propagate_down):
            raise ConfigError(f"{self.type} has no gradient", hint="Set propagate_down: false or lr_mult: 0 before it.")

    def default_loss_weight(self, top_index: int) -> float:
        """The weight of a top in the loss where the definition gives none."""
        return 0.0

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Whether `force_backward` reaches this bottom; not so labels and markers."""
        return True

    def divisible(self) -> bool:
        """Whether parts of a batch may be computed apart, each by a copy of the layer.

        So where every item (index of the first axis) of tops and bottom gradients depends on that item alone, and on
        parameters, nothing is drawn at random and gradients of parameters are sums over items. A subclass outside
        caffepy must say so itself, what it inherits does not count. The copies are made in a net's first pass and
        whenever shapes change: they do not see attributes of the layer that change in between.
        """
        return False

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        """Floating-point operations of a forward pass, for layers that are matrix products; else 0."""
        return 0

    def state(self) -> dict[str, Any]:
        """What the layer remembers between passes beyond its blobs, for an exact resume: arrays, numbers, dicts."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""

    # What the base provides

    def set_up(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Check blob counts, then setup, reshape and loss weights."""
        self._check_count("bottom", self.num_bottom, len(bottom))
        self._check_count("top", self.num_top, len(top))
        if self.shares_data and any(t is b for t in top for b in bottom):
            raise ConfigError(f"{self.type} cannot run in place", hint="Give the top a name of its own.")
        self.setup(bottom, top)
        self.param_propagate_down = [True] * len(self.blobs)
        if self.param.blobs:
            self._load_blobs()
        self.reshape(bottom, top)
        self._set_loss_weights(top)

    def add_blob(self, shape: Sequence[int], filler: caffe_pb2.FillerParameter | None = None) -> Blob:
        """Append a parameter, filled as `filler` says (zeros without one)."""
        blob = Blob(shape, self.engine)
        if filler is not None:
            blob.data[...] = self.engine.asarray(fillers.fill(shape, filler))
        self.blobs.append(blob)
        return blob

    def by_item(self, array: Array) -> Array:
        """(N, ...) as (N, K), also where N is 0."""
        return array.reshape((array.shape[0], prod(array.shape[1:])))

    def refuse(self, wrong: Array, values: Array, error: Callable[[int, float], CaffeError]) -> None:
        """Raise `error(i, value)` for the first entry of `values` that is `wrong`, counted in C order.

        On a lazy engine the first of each shape of `values` waits until `put_off` asks for it.
        """
        if not prod(wrong.shape) or (not self.engine.lazy and not wrong.any()):
            return
        xp, shape = self.xp, tuple(values.shape)
        flat = xp.reshape(wrong, (-1,))
        at = xp.argmax(xp.astype(flat, xp.uint8))
        value = xp.take(xp.reshape(values, (-1,)), xp.reshape(at, (1,)))[0]
        found = xp.stack([xp.astype(number, xp.float64) for number in (xp.any(flat), at, value)])
        kept = self._refused[shape][0] if shape in self._refused else xp.zeros_like(found)
        kept[...] = xp.where(kept[0] > 0, kept, found)
        self._refused[shape] = kept, error
        if not self.engine.lazy and (refused := self.put_off()):
            raise refused

    def put_off(self) -> CaffeError | None:
        """An error that `refuse` has not raised on a lazy engine; afterwards there is none."""
        first = None
        for kept, error in self._refused.values():
            wrong, i, value = self.engine.to_host(kept).tolist()
            if wrong:
                kept[...] = 0  # its memory stays: a recorded graph writes there
                first = first or error(int(i), value)
        return first

    @contextmanager
    def written_as(self, array: Array, shape: Sequence[int]) -> Iterator[Array]:
        """`array` in another shape, to be written: a view, or a temporary that is copied back at the end."""
        if array.shape == tuple(shape):
            yield array
            return
        other = array.reshape(tuple(shape))
        yield other
        if not self.engine.same_memory(other, array):
            array[...] = other.reshape(array.shape)

    def canonical_axis(self, axis: int, ndim: int, what: str = "axis") -> int:
        """`axis` counted from the front; negative counts from the end."""
        if not -ndim <= axis < ndim:
            raise ConfigError(f"{what} {axis} is out of range for a bottom with {ndim} axes ({-ndim} to {ndim - 1})")
        return axis % ndim

    def check_same_shape(self, bottom: list[Blob]) -> None:
        for i, other in enumerate(bottom[1:], 1):
            if other.shape != bottom[0].shape:
                raise ShapeError(
                    f"bottoms must have one shape, but {self.bottom_name(0)} is {bottom[0].shape} and "
                    f"{self.bottom_name(i)} is {other.shape}"
                )

    def bottom_name(self, i: int) -> str:
        """`"name"` of a bottom for messages."""
        return f'"{self.bottom_names[i]}"' if i < len(self.bottom_names) else f"bottom {i}"

    def _check_count(self, kind: str, wanted: Count, found: int) -> None:
        least, most = (wanted, wanted) if isinstance(wanted, int) else wanted
        if found < least or (most is not None and found > most):
            text = str(least) if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            change = f"add {least - found}" if most is None or found < least else f"leave out {found - most}"
            raise ConfigError(
                f"{self.type} takes {text} {kind} blob(s), {found} given",
                hint=f'Each line {kind}: "name" of the layer gives one: {change}.',
            )

    def _load_blobs(self) -> None:
        from caffepy.net.weights import copy_blobs

        copy_blobs(self.param.blobs, self.blobs, "the definition")

    def _set_loss_weights(self, top: list[Blob]) -> None:
        given = self.param.loss_weight
        if given and len(given) != len(top):
            raise ConfigError(f"{len(given)} loss_weight(s) given for {len(top)} top(s); give one for each top or none")
        self.loss_weights = list(given) or [self.default_loss_weight(i) for i in range(len(top))]
        for blob, weight in zip(top, self.loss_weights):
            if weight:
                # As in Caffe, the weight is where backward starts from and nobody refreshes it.
                blob.diff[...] = weight


class LossLayer(Layer):
    """Base of losses: a scalar top, weight 1 by default, no gradient for the last bottom (the label)."""

    num_bottom: ClassVar[Count] = 2
    auto_top = True

    def default_loss_weight(self, top_index: int) -> float:
        return 1.0 if top_index == 0 else 0.0

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} and {self.bottom_name(1)} {bottom[1].shape} "
                "must have the same number of items (first axis)"
            )
        top[0].reshape(())

    def check_axes(self, bottom: list[Blob]) -> None:
        """Some of Caffe's losses know up to four axes only."""
        for i, blob in enumerate(bottom):
            if len(blob.shape) > 4:
                raise ShapeError(f"{self.type} takes up to four axes, {self.bottom_name(i)} is {blob.shape}")
