"""Values at positions that a mask gives, the second top of a max Pooling, in larger planes; zero elsewhere."""

from __future__ import annotations

from math import prod

from caffepy.errors import DataError, ShapeError
from caffepy.layers.labels import position, read_indices
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer


def check_mask(layer: Layer, bottom: list[Blob]) -> None:
    if bottom[1].shape != bottom[0].shape:
        raise ShapeError(
            f"the mask {layer.bottom_name(1)} {bottom[1].shape} must have the shape of {layer.bottom_name(0)}, "
            f"{bottom[0].shape}"
        )


def put_by_mask(layer: Layer, bottom: list[Blob], top: Blob) -> None:
    """top[n, c].flat[mask[n, c, i]] = x[n, c, i]; of a repeated position the last value stays."""
    index = _index(layer, bottom[1], top.shape)
    values = _last(layer, bottom[0].data).reshape((-1,))
    with layer.written_as(_last(layer, top.data), (top.count,)) as flat:
        flat[...] = 0
        layer.engine.scatter(flat, index, values)


def take_by_mask(layer: Layer, bottom: list[Blob], top: Blob) -> None:
    """The gradient of `put_by_mask`: dx[n, c, i] = dy[n, c].flat[mask[n, c, i]]."""
    index = _index(layer, bottom[1], top.shape)
    taken = layer.xp.take(_last(layer, top.diff).reshape((-1,)), index)
    dx = _last(layer, bottom[0].diff)
    dx[...] = taken.reshape(dx.shape)


def _index(layer: Layer, mask: Blob, shape: tuple[int, ...]) -> Array:
    """Where in the flat top, channels last, each value goes."""
    xp = layer.xp
    (n, c, *_), size = shape, prod(shape[2:])

    def error(i: int, value: float) -> DataError:
        return DataError(
            f"position {value:g} at {position(i, mask.shape)} of the mask {layer.bottom_name(1)} is outside 0 .. "
            f"{size - 1}, the top's plane of {shape[2]}x{shape[3]}",
            hint="The top must have the size of what the Pooling that made the mask had as its bottom.",
        )

    place = read_indices(layer, mask.data, size, error)
    item = xp.reshape(xp.arange(n), (n, 1, 1, 1))
    return ((item * size + _last(layer, place)) * c + xp.arange(c)).reshape((-1,))


def _last(layer: Layer, array: Array) -> Array:
    """(N, C, H, W) as (N, H, W, C), in which it lies in memory."""
    return layer.xp.permute_dims(array, (0, 2, 3, 1))
