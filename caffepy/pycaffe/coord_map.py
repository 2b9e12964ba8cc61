"""Where the pixels of one top lie on another: the affine maps that convolution, pooling and cropping make.

For nets of `net_spec`. A map (axis, a, b) takes the coordinate x behind `axis` (counted without the channels' axis, as
Caffe's convolution does) to a x + b; a and b are arrays, an entry each spatial axis, or one for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.spec import Function, Top, layers

Map = tuple[int | None, Any, Any]

IDENTITY: Map = (None, 1, 0)
PASS_THROUGH_LAYERS = [
    "AbsVal",
    "BatchNorm",
    "Bias",
    "BNLL",
    "Clip",
    "Dropout",
    "Eltwise",
    "ELU",
    "Exp",
    "Log",
    "LRN",
    "MVN",
    "Power",
    "PReLU",
    "ReLU",
    "Scale",
    "Sigmoid",
    "Split",
    "Swish",
    "TanH",
    "Threshold",
]


class UndefinedMapException(ConfigError):
    """The layer does not map coordinates by an affine map."""


class AxisMismatchException(ConfigError):
    """Two layers in a row have their spatial axes in different places."""


class UnconnectedError(UndefinedMapException, RuntimeError):
    """No chain of spatial layers connects two tops; a RuntimeError, too, as in pycaffe."""


class CropError(ConfigError, AssertionError):
    """One top cannot be cropped to another; an AssertionError, too, as in pycaffe."""


def coord_map(fn: Function) -> Map:
    """The map from a layer's output to its (first) input, inverted: where an input pixel lies in the output."""
    if fn.type_name in ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = _window(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = _window(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        given = fn.params.get("crop_param", fn.params)
        return given.get("axis", 2) - 1, 1, -_array(given.get("offset", 0))
    raise UndefinedMapException(
        f"a layer of type {fn.type_name} maps no coordinates",
        hint=f"Only windows, Crop and elementwise layers do: {', '.join(PASS_THROUGH_LAYERS)}.",
    )


def compose(outer: Map, inner: Map) -> Map:
    """outer(inner(x)); raises AxisMismatchException if they act on different axes."""
    (axis, a, b), (other, c, d) = outer, inner
    if axis is not None and other is not None and axis != other:
        raise AxisMismatchException(f"spatial axes begin behind axis {axis} in one layer and {other} in another")
    return other if axis is None else axis, a * c, a * d + b


def inverse(given: Map) -> Map:
    """The map the other way round."""
    axis, a, b = given
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
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


def _walk(top: Top) -> Iterator[tuple[Top, Map]]:
    """The top and everything that it comes from, with the map from there to the top; stops at what maps nothing."""
    maps: dict[Top, Map] = {top: IDENTITY}
    frontier = [top]
    while frontier:
        found = frontier.pop()
        yield found, maps[found]
        # A Crop takes its values from the first bottom, and only its size from the second.
        bottoms = found.fn.inputs[:1] if found.fn.type_name == "Crop" else found.fn.inputs
        if not bottoms:
            continue
        try:
            step = coord_map(found.fn)
        except UndefinedMapException:
            continue
        for bottom in bottoms:
            if bottom not in maps:
                maps[bottom] = compose(maps[found], step)
                frontier.append(bottom)


def _window(fn: Function) -> tuple[int, Any, Any, Any]:
    """Axis, stride, kernel extent and pad of a layer with a sliding window."""
    own = "pooling_param" if fn.type_name == "Pooling" else "convolution_param"
    given = fn.params.get(own, fn.params)
    for field in ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w"):
        if field in given:
            raise UndefinedMapException(f"{fn.type_name} gives {field}", hint="Write kernel_size, stride and pad.")
    if "kernel_size" not in given:
        raise UndefinedMapException(f"{fn.type_name} gives no kernel_size")
    kernel, dilation = _array(given["kernel_size"]), _array(given.get("dilation", 1))
    stride, pad = _array(given.get("stride", 1)), _array(given.get("pad", 0))
    return given.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def _array(value: Any) -> np.ndarray:
    return np.array(value, ndmin=1)
