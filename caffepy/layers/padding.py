"""Which steps of sequences of several lengths are there, and which are padding."""

from __future__ import annotations

from caffepy.errors import DataError, ShapeError
from caffepy.layers.labels import position
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer


def check_shape(layer: Layer, i: int, blob: Blob, shape: tuple[int, int], axis: int) -> None:
    """Raises ShapeError unless bottom i is lengths (N,) or markers in the order of `shape`, time at `axis`."""
    items = shape[1 - axis]
    if blob.shape not in ((items,), shape):
        order = "(T, N)" if axis == 0 else "(N, T)"
        raise ShapeError(
            f"{layer.bottom_name(i)} must be lengths (N,) = {(items,)} or markers {order} = {shape}, it is {blob.shape}"
        )


def present(layer: Layer, i: int, blob: Blob, steps: int, axis: int, left: bool = False) -> Array:
    """(N, T): whether a step is there, of lengths (`left`: of the last steps) or of markers that are 1 where it is."""
    xp, values = layer.xp, blob.data
    if len(blob.shape) == 1:
        check_lengths(layer, i, blob, steps)
        place = xp.reshape(xp.arange(steps), (1, -1))
        return (steps - 1 - place if left else place) < xp.reshape(values, (-1, 1))
    check_markers(layer, i, blob)
    return xp.permute_dims(values, (1, 0) if axis == 0 else (0, 1)) != 0


def check_lengths(layer: Layer, i: int, blob: Blob, steps: int) -> None:
    """Whole numbers in 0 .. steps. Raises DataError."""
    name, shape, values = layer.bottom_name(i), blob.shape, blob.data

    def error(at: int, value: float) -> DataError:
        return DataError(
            f"the length {value:g} at {position(at, shape)} of {name} is none: sequences have 0 to {steps} steps here",
            hint="Lengths count the steps of each sequence that are no padding.",
        )

    layer.engine.refuse(layer, ~((values >= 0) & (values <= steps) & (values == layer.xp.floor(values))), values, error)


def check_markers(layer: Layer, i: int, blob: Blob) -> None:
    """0 or 1. Raises DataError."""
    name, shape, values = layer.bottom_name(i), blob.shape, blob.data

    def error(at: int, value: float) -> DataError:
        return DataError(f"the marker {value:g} at {position(at, shape)} of {name} is neither 0 nor 1")

    layer.engine.refuse(layer, ~((values == 0) | (values == 1)), values, error)
