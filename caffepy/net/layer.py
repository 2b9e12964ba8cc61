"""Layer: shapes, forward, backward; and the registry that maps a `type:` to its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import wraps
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import ReferenceType

from caffepy.engine import Engine, default_engine
from caffepy.errors import ConfigError, ShapeError
from caffepy.net import fillers, param_str
from caffepy.net.blob import Array, Blob
from caffepy.net.parameters import copy_blobs
from caffepy.plugins import Registry
from caffepy.proto import caffe_pb2, dialects

if TYPE_CHECKING:
    import numpy as np

    from caffepy.engine.after import After

Count = int | tuple[int, int | None]
"""How many blobs a layer takes: a number, or the least and the most (None: any number)."""

CoordMap = tuple[int | None, Any, Any]
"""(axis, a, b): what lies at x in the bottom lies at a x + b in the top, on the axes behind `axis` (None: on all)."""

_FIELDS: dict[str, str] = {
    field.message_type.name.removesuffix("Parameter"): name
    for name, field in reversed(caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name.items())
    if name.endswith("_param") and field.message_type is not None
}
"""Field of LayerParameter, the first, by the type that its message is called after: "pooling_param" of "Pooling"."""

_registry: Registry[type[Layer]] = Registry(
    "layer type", "layers", own=("caffepy.layers", "caffepy.recommend.layers", "caffepy.pycaffe.python_layer")
)

LayerClass = type["Layer"]


def register(name: str, replace: bool = False) -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator: `type: "name"` in a prototxt builds this class, with `replace` instead of one of that name."""

    def decorate(cls: type[Layer]) -> type[Layer]:
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise ConfigError(
                f'the layer "{name}" is no caffepy.net.layer.Layer: {getattr(cls, "__qualname__", cls)}',
                hint='Derive it from that; a layer as pycaffe\'s, caffepy.Layer, is named by type: "Python".',
            )
        cls.type = name
        cls.param_field = _FIELDS.get(name, cls.param_field)
        _registry.register(name, cls, replace=replace)
        return cls

    return decorate


def layer_types() -> list[str]:
    """All known values of `type:`, sorted."""
    _registry.complete()
    return sorted(_registry)


def layer_class(name: str) -> type[Layer]:
    """The class of a `type:`. Raises ConfigError with the nearest name where there is none."""
    if not name:
        raise ConfigError("type is not set", hint='Say what the layer does: type: "Convolution", for example.')
    _registry.complete()
    name = name if name in _registry else dialects.TYPES.get(name, name)
    if name not in _registry and (fork := dialects.whose(name)):
        raise ConfigError(f'unknown layer type "{name}"', hint=f"It is a layer of {fork}, which is not supported.")
    return _registry.find(name)


def create(param: caffe_pb2.LayerParameter, phase: int = caffe_pb2.TRAIN, engine: Engine | None = None) -> Layer:
    """The layer that `param` describes. It has no shapes and parameters before `set_up`."""
    return layer_class(param.type).form(param)(param, phase, engine)


class NoGradientError(ConfigError):
    """A gradient is asked of a layer that has none."""


def _runs_itself(forward: Callable[..., None]) -> Callable[..., None]:
    """A forward method after which the layer itself keeps what backward needs."""

    @wraps(forward)
    def run(self: Layer, *args: Any) -> None:
        self.kept_by = None
        forward(self, *args)

    return run


def _has_run_itself(backward: Callable[..., None]) -> Callable[..., None]:
    """A backward method that refuses where it would go on from what the layer has not seen."""

    @wraps(backward)
    def run(self: Layer, *args: Any) -> None:
        if self.kept_by is not None:
            raise ConfigError(
                "the layer has not run forward itself: copies of it have computed parts of the batch, or it was "
                "computed as one with others",
                hint="Run backward through the net, or forward with caffepy.passes.Whole.",
            )
        backward(self, *args)

    return run


class Layer:
    """Base of all layers.

    A subclass checks its parameters in `setup`, derives the tops' shapes in `reshape` and computes in `forward` and
    `backward`, with the array namespace `self.xp` and the kernels of `self.engine`. `backward` overwrites the
    gradients of bottoms and adds to those of parameters. The lists of blobs are the same objects in every call.
    Outside caffepy its annotations are its parameters, which `param_str` sets: `slope: float = 0.1`.
    """

    type: str = ""
    num_bottom: ClassVar[Count] = 1
    num_top: ClassVar[Count] = 1
    auto_top: ClassVar[bool] = False
    """Whether the net adds tops up to the least number where the definition names none."""
    sparse_params: ClassVar[tuple[int, ...]] = ()
    """The parameters whose gradient may be rows (`param { sparse: true }`): `backward` then adds to `blob.rows`."""
    shares_data: ClassVar[bool] = False
    """Whether tops are other names for the bottom's memory, so that the layer cannot run in place."""
    in_place: ClassVar[Literal["right", "forward", "refused"]] = "right"
    """Whether a top may be its bottom. "forward": only forward is right then, for the gradient needs the bottom."""
    recordable: ClassVar[bool] = True
    """Whether a CUDA graph can hold its passes: not if they run code of Python, or shape tops by values."""
    param_field: ClassVar[str] = ""
    """The field of LayerParameter with its parameters. Said where its message is called after another type."""
    regression: ClassVar[bool] = False
    """Of a loss: whether it is of the size of a squared error, not of a log likelihood."""
    takes_label: ClassVar[bool] = False
    """Whether the last bottom is a label that the others are compared with: a loss, a score."""
    takes_affine: bool = False
    """Whether a factor and an offset a channel can go into its weights."""
    takes_after: bool = False
    """Whether what follows it can be done to its outputs as they are made: see `forward_with`."""
    comes_after: Literal["", "sum", "relu"] = ""
    """What it does to outputs as they are made: adds its other bottom, or takes max(x, 0)."""
    pixelwise: ClassVar[bool] = False
    """Whether a pixel of the top comes from those at the same place of the bottoms."""
    colour: ClassVar[str] = "#6495ED"
    """In drawings of nets."""

    kept_by: ReferenceType[Any] | None = None
    """Who has run it forward last, in parts or with others, and keeps what backward needs; None: the layer itself."""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        for name, guarded in (("forward", _runs_itself), ("backward", _has_run_itself)):
            if name in vars(cls):
                setattr(cls, name, guarded(vars(cls)[name]))

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
        vars(self).update(param_str.read(type(self), param.param_str, taken=[*vars(self), *vars(Layer)]))

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
            raise NoGradientError(
                f"{self.type} has no gradient", hint="Set propagate_down: false or lr_mult: 0 before it."
            )

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
        caffepy must say so itself, what it inherits does not count. The copies (see `part`) are made in a net's first
        pass and whenever shapes change: they do not see attributes of the layer that change in between.
        """
        return False

    def affine(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(a, b) a channel, float64, where the layer computes y = a x + b with numbers that stand fast; else None."""
        return None

    def with_affine(self, factor: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights and bias, float64, with which it would compute factor * y + offset a channel (`takes_affine`)."""
        raise NotImplementedError

    def forward_with(self, bottom: Blob, top: Blob, after: After) -> None:
        """`forward`, and what comes after it, in one pass over the top (`takes_after`)."""
        raise NotImplementedError

    def meter(self, top_index: int) -> Any:
        """What a test makes of this top over all its batches: a new meter (`caffepy.solver.meters`), or None.

        None: the meter that is registered for the layer's type, else the mean over the batches.
        """
        return None

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        """Floating-point operations of a forward pass, for layers that are matrix products; else 0."""
        return 0

    @classmethod
    def coord_map(cls, param: caffe_pb2.LayerParameter, bottom: int = 0) -> CoordMap | None:
        """Where pixels of a bottom lie in the top, if they stay together. Raises ConfigError if that is no CoordMap."""
        return (None, 1, 0) if cls.pixelwise else None

    def state(self) -> dict[str, Any]:
        """What the layer remembers between passes beyond its blobs, for an exact resume: arrays, numbers, dicts."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""

    # What the base provides

    @property
    def is_patched(self) -> bool:
        """Whether a script has given this one layer a `forward` or `backward` of its own: then it runs by itself."""
        return "forward" in vars(self) or "backward" in vars(self)

    def set_up(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Check blob counts, then setup, reshape and loss weights."""
        self._check_count("bottom", self.num_bottom, len(bottom))
        self._check_count("top", self.num_top, len(top))
        if (self.shares_data or self.in_place == "refused") and any(t is b for t in top for b in bottom):
            raise ConfigError(f"{self.type} cannot run in place", hint="Give the top a name of its own.")
        self.setup(bottom, top)
        self.param_propagate_down = [True] * len(self.blobs)
        if self.param.blobs:
            copy_blobs(self.param.blobs, self.blobs, "the definition")
        self.reshape(bottom, top)
        self._set_loss_weights(top)

    def part(self, engine: Engine, blobs: list[Blob]) -> Layer:
        """A copy for some items of a batch, on `engine`, with `blobs` as parameters; `reshape` gives it its shapes.

        Attributes that are blobs are workspaces, of which the copy gets its own; all others it shares. A layer whose
        forward pass changes more than workspaces and what `reshape` makes says so here.
        """
        copied = copy(self)
        copied.kept_by = None
        copied.engine, copied.xp, copied.blobs = engine, engine.xp, blobs
        for name, value in vars(self).items():
            if isinstance(value, Blob):
                setattr(copied, name, Blob((), engine))
        return copied

    def add_blob(self, shape: Sequence[int], filler: caffe_pb2.FillerParameter | None = None) -> Blob:
        """Append a parameter, filled as `filler` says (zeros without one)."""
        blob = Blob(shape, self.engine)
        if filler is not None:
            fillers.fill_blob(blob, filler)
        self.blobs.append(blob)
        return blob

    def by_item(self, array: Array) -> Array:
        """(N, ...) as (N, K), also where N is 0."""
        return array.reshape((array.shape[0], prod(array.shape[1:])))

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
    takes_label = True

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
