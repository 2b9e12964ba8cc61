"""Where the pixels of one top lie on another: the affine maps that convolution, pooling and cropping make.

For nets of `net_spec`. A map (axis, a, b) takes the coordinate x behind `axis` (counted without the channels' axis, as
Caffe's convolution does) to a x + b; a and b are arrays, an entry each spatial axis, or one for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.layer import CoordMap, layer_class, layer_types
from caffepy.net.spec import Function, Top, layers

IDENTITY: CoordMap = (None, 1, 0)


class UndefinedMapException(ConfigError):
    """The layer does not map coordinates by an affine map."""


class AxisMismatchException(ConfigError):
    """Two layers in a row have their spatial axes in different places."""


class UnconnectedError(UndefinedMapException, RuntimeError):
    """No chain of spatial layers connects two tops; a RuntimeError, too, as in pycaffe."""


class CropError(ConfigError, AssertionError):
    """One top cannot be cropped to another; an AssertionError, too, as in pycaffe."""


def coord_map(fn: Function, bottom: int = 0) -> CoordMap:
    """The map from a layer's output to an input (the first), inverted: where an input pixel lies in the output."""
    kind = layer_class(fn.type_name)
    try:
        found = kind.coord_map(fn.unnamed(), bottom)
    except ConfigError as error:
        raise UndefinedMapException(error.message, where=fn.type_name, hint=error.hint) from None
    if found is None:
        like = [name for name in layer_types() if layer_class(name).pixelwise]
        raise UndefinedMapException(
            f"a layer of type {fn.type_name} maps no coordinates",
            hint=f"Only windows, Crop and elementwise layers do: {', '.join(like)}.",
        )
    return found


def compose(outer: CoordMap, inner: CoordMap) -> CoordMap:
    """outer(inner(x)); raises AxisMismatchException if they act on different axes."""
    (axis, a, b), (other, c, d) = outer, inner
    if axis is not None and other is not None and axis != other:
        raise AxisMismatchException(f"spatial axes begin behind axis {axis} in one layer and {other} in another")
    return other if axis is None else axis, a * c, a * d + b


def inverse(given: CoordMap) -> CoordMap:
    """The map the other way round."""
    axis, a, b = given
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """The map from the coordinates of `top_from` to those of `top_to`, by an input that both come from.

    Raises UnconnectedError where no chain of spatial layers connects them.
    """
    seen = dict(_walk(top_from))
    for top, to_map in _walk(top_to):
        if top in seen:
            return compose(to_map, inverse(seen[top]))
    raise UnconnectedError("the tops are not connected by spatial layers")


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts `top_from` to the size and place of `top_to`.

    Raises CropError where that takes more than cutting off whole pixels.
    """
    axis, a, b = coord_map_from_to(top_from, top_to)
    # Thirds and the like, composed, miss whole numbers by some bits.
    a, offset = np.round(_array(a), 6), np.round(-_array(b), 6)
    problem = ""
    if (a != 1).any():
        problem = f"scale mismatch on crop: {a.tolist()}"
    elif (offset < 0).any():
        problem = f"cannot crop a negative offset: {offset.tolist()}"
    elif (offset % 1 != 0).any():
        problem = f"cannot crop an offset that is no integer: {offset.tolist()}"
    if problem:
        raise CropError(problem, hint="Change stride or pad of the layers between the two tops.")
    cut = {"axis": (1 if axis is None else axis) + 1, "offset": [int(o) for o in offset]}
    return layers.Crop(top_from, top_to, crop_param=cut)


def _walk(top: Top) -> Iterator[tuple[Top, CoordMap]]:
    """The top and everything that it comes from, with the map from there to the top; stops at what maps nothing."""
    maps: dict[Top, CoordMap] = {top: IDENTITY}
    frontier = [top]
    while frontier:
        found = frontier.pop()
        yield found, maps[found]
        for i, bottom in enumerate(found.fn.inputs):
            try:
                step = coord_map(found.fn, i)
            except UndefinedMapException:
                continue
            if bottom not in maps:
                maps[bottom] = compose(maps[found], step)
                frontier.append(bottom)


def _array(value: Any) -> np.ndarray:
    return np.array(value, ndmin=1)
