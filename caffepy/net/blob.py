"""Blob: an array and its gradient, in Caffe's axis order whatever the memory order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from caffepy import limits
from caffepy.errors import ConfigError, ShapeError
from caffepy.net.rows import Rows

if TYPE_CHECKING:
    import numpy as np

    from caffepy.engine import Engine
    from caffepy.net.spread import Spread

Array = Any  # numpy.ndarray or torch.Tensor, the engine knows

MAX_COUNT = 2**31 - 1


def put(blob: Blob, array: Array, values: Any) -> None:
    """Assign to all of `array`, the blob's values or its gradient. Raises ShapeError where the shapes do not fit."""
    try:
        array[...] = values
    except (ValueError, RuntimeError):  # NumPy's and PyTorch's
        import numpy as np

        found = tuple(np.shape(values))
        try:
            fits = np.broadcast_shapes(found, blob.shape) == blob.shape
        except ValueError:
            fits = False
        if fits:
            raise
        name = f'the blob "{blob.name}"' if blob.name else "the blob"
        raise ShapeError(
            f"{name} has shape {blob.shape}, the array for it {found}",
            hint="Shape the blob first, blob.reshape(...), or the array.",
        ) from None


def _checked(shape: tuple[int, ...], engine: Engine) -> tuple[int, ...]:
    if any(d < 0 for d in shape):
        raise ShapeError(f"a blob cannot have the shape {shape}")
    count = prod(shape)
    if count > MAX_COUNT:
        raise ShapeError(f"a blob of shape {shape} has {count} values; Caffe's limit is {MAX_COUNT}")
    limits.check(engine.host_bytes(count), f"a blob of shape {shape}", ShapeError)
    return shape


class Layout(NamedTuple):
    """A blob's shape and memory order, and what `data` and `diff` are views of, None where nothing is allocated."""

    shape: tuple[int, ...]
    channels_last: bool
    data: Array | None
    diff: Array | None

    def is_that_of(self, other: Layout) -> bool:
        """Whether both are the same memory, used in the same way."""
        return self[:2] == other[:2] and self.data is other.data and self.diff is other.diff


class Blob:
    """`data` and `diff` of one shape, allocated when first used and kept when the blob shrinks.

    Four axes are stored channels-last: `data` has shape (N, C, H, W) and memory order N, H, W, C, unless
    `channels_last` is false. All other ranks are in C order.
    """

    def __init__(self, shape: Sequence[int] = (), engine: Engine | None = None, channels_last: bool = True):
        if engine is None:
            from caffepy.engine import default_engine

            engine = default_engine()
        self.engine = engine
        self.name = ""
        """What the net calls it, for messages."""
        self.channels_last = channels_last
        self.diff_moved = False
        """A Flatten has given this blob's gradient another memory, as Caffe's does (see layers/reshape.py)."""
        self._shape: tuple[int, ...] = _checked(tuple(shape), engine)
        self._flat: dict[str, Array] = {}  # "data", "diff": at least `count` elements
        self._lenders: dict[str, Array] = {}  # whose memory `_flat` is, if another blob's
        self._view: dict[str, Array] = {}
        self._deferred: dict[str, Callable[[Array], None]] = {}
        self.num_ids = 0
        """How many ids its values are of, where the layer that makes it knows: the rows that a table of them has."""
        self.rows: Rows | None = None
        """The gradient of a table of which a batch touches a few rows, in the place of `diff`."""
        self.spread: Spread | None = None
        """Where the other rows are, for a table of which this process keeps some."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape with all rows, those that other processes keep, too: as files have it."""
        return self._shape if self.spread is None else (self.spread.count, *self._shape[1:])

    @property
    def count(self) -> int:
        """Number of elements; 1 for a scalar."""
        return prod(self._shape)

    @property
    def data(self) -> Array:
        """The values, a writable view in Caffe's axis order."""
        view = self._view.get("data")
        return self._make_view("data") if view is None else view

    @data.setter
    def data(self, value: Array) -> None:
        put(self, self.data, value)

    @property
    def diff(self) -> Array:
        """The gradient, a writable view in Caffe's axis order. Raises ConfigError where it is `rows`."""
        view = self._view.get("diff")
        return self._make_view("diff") if view is None else view

    @diff.setter
    def diff(self, value: Array) -> None:
        put(self, self.diff, value)

    @property
    def has_diff(self) -> bool:
        return "diff" in self._flat

    def flat(self, which: str = "data") -> Array:
        """The elements as one axis, in memory order: for what treats all elements alike."""
        getattr(self, which)
        return self._flat[which][: self.count]

    def memory(self, which: str = "data") -> Array:
        """All memory that the elements are the first of, as it is now."""
        return self._flat[which]

    @property
    def is_viewed(self) -> bool:
        """Whether somebody has asked for `data` since `forget_views`."""
        return "data" in self._view

    def forget_views(self) -> None:
        """Make a new view for who asks next; views that somebody has stay right."""
        self._view.clear()

    def clear_diff(self) -> None:
        """Set the gradient to zero."""
        if self.rows is not None:
            self.rows.clear()
        else:
            self.flat("diff")[...] = 0

    def share_gradient(self, other: Blob) -> None:
        """Use the other blob's gradient, whatever its form, as one's own."""
        if other.rows is not None:
            self.rows = other.rows
        else:
            self.share_diff(other)

    def host(self, which: str = "data") -> np.ndarray:
        """The values ("data") or the gradient ("diff") as a numpy array: a view where the engine's memory allows."""
        if which == "diff" and self.rows is not None:
            return self.rows.dense()
        return self.engine.to_host(getattr(self, which))

    def fill(self, values: Any, which: str = "data") -> None:
        """Copy numpy values, broadcast to the blob's shape, into `data` or `diff`."""
        if which == "diff" and self.rows is not None:
            self.rows.fill(values)
            return
        getattr(self, which)[...] = self.engine.asarray(values)

    def defer(self, which: str, fill: Callable[[Array], None]) -> None:
        """Let `fill` write to `data` or `diff` when it is next asked for, unless the blob is reshaped before."""
        self._deferred[which] = fill
        self._view.pop(which, None)

    def reshape(self, *shape: SupportsIndex | Iterable[SupportsIndex]) -> None:
        """Take a new shape. Memory grows when needed and never shrinks; contents are then undefined."""
        given: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], Iterable) else shape
        dims = tuple(index(d) for d in given)
        if dims == self._shape:
            return
        self._shape = _checked(dims, self.engine)
        self._view.clear()
        self._deferred.clear()

    def reshape_like(self, other: Blob) -> None:
        self.reshape(other.shape)

    def share_data(self, other: Blob) -> None:
        """Use the other blob's values as one's own; shapes may differ if the counts agree."""
        self._share("data", other)

    def share_diff(self, other: Blob) -> None:
        """Use the other blob's gradient as one's own."""
        self._share("diff", other)

    @property
    def layout(self) -> Layout:
        """Where the values and the gradient lie, and how."""
        return Layout(self._shape, self.channels_last, self._flat.get("data"), self._flat.get("diff"))

    def part(self, engine: Engine, items: slice | None = None) -> Blob:
        """A blob of some of the items (the first axis), or of all, in this one's memory as it is now."""
        part = Blob(self._shape, engine, self.channels_last)
        part.name, part._flat = self.name, {which: flat[: self.count] for which, flat in self._flat.items()}
        if items is not None:
            start, stop, _ = items.indices(self._shape[0])
            part._shape, size = (stop - start, *self._shape[1:]), prod(self._shape[1:])
            part._flat = {which: flat[start * size : stop * size] for which, flat in part._flat.items()}
        return part

    def use_diff(self, flat: Array) -> None:
        """Keep the gradient in this memory, one axis of `count` elements."""
        self._flat["diff"] = flat
        self._lenders.pop("diff", None)
        self._view.pop("diff", None)

    def use_c_order(self) -> None:
        """Store four axes in C order from now on, keeping the contents, so that another shape may share them."""
        if self._shape and self.channels_last:
            kept = {which: self.engine.copy(getattr(self, which)) for which in self._flat}
            self.channels_last = False
            self._view.clear()
            for which, values in kept.items():
                getattr(self, which)[...] = values

    def _share(self, which: str, other: Blob) -> None:
        if self.count != other.count:
            raise ShapeError(f"a blob of shape {self._shape} cannot share memory with one of {other.shape}")
        if self._shape != other.shape:
            self.use_c_order()
            other.use_c_order()
        if self.channels_last != other.channels_last:
            self.channels_last = other.channels_last
            self._view.clear()
        flat = other.flat(which)
        lender = other._flat[which]
        if self._lenders.get(which) is not lender or self._flat[which].shape != flat.shape:
            self._flat[which], self._lenders[which] = flat, lender
            self._view.pop(which, None)

    def _make_view(self, which: str) -> Array:
        if which == "diff" and self.rows is not None:
            raise ConfigError(
                f'the gradient of "{self.name}" is rows: param {{ sparse: true }}',
                hint="Read blob.rows.merged(), or blob.rows.dense() for all of it.",
            )
        count = self.count
        flat = self._flat.get(which)
        if flat is None or flat.shape[0] < count:
            flat = self._flat[which] = self.engine.zeros(count)
            self._lenders.pop(which, None)
        view = flat[:count]
        if len(self._shape) == 4 and self.channels_last:
            n, c, h, w = self._shape
            view = self.engine.xp.permute_dims(view.reshape((n, h, w, c)), (0, 3, 1, 2))
        else:
            view = view.reshape(self._shape)
        self._view[which] = view
        if self._deferred and (fill := self._deferred.pop(which, None)):
            fill(view)
        return view

    def legacy_shape(self, axis: int) -> int:
        """Extent of one of the four classic axes; missing trailing axes count as 1."""
        if len(self._shape) > 4:
            raise ShapeError(f"a blob of shape {self._shape} has no num, channels, height and width")
        return self._shape[axis] if axis < len(self._shape) else 1

    num = property(lambda self: self.legacy_shape(0))
    channels = property(lambda self: self.legacy_shape(1))
    height = property(lambda self: self.legacy_shape(2))
    width = property(lambda self: self.legacy_shape(3))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_view": {}, "_lenders": {}, "_deferred": {}}  # a copy has memory of its own

    def __repr__(self) -> str:
        return f"Blob{self._shape}"
