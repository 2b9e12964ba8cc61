"""Maps made larger or smaller: by interpolation, by repetition, by the mask of a pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import INT64, OnnxGraph
from caffepy.proto.caffe_pb2 import UnpoolingParameter


@converts("Interp")
def interp(g: OnnxGraph, at: At) -> list[str]:
    p, x = at.layer.param.interp_param, at.x[0]
    size = [n + p.pad_beg + p.pad_end for n in at.bottom[0][2:] if n is not None]
    if p.pad_beg or p.pad_end:
        stops = [n - p.pad_beg for n in size]
        x = g.op("Slice", x, g.ints(-p.pad_beg, -p.pad_beg), g.ints(*stops), g.ints(2, 3))
    sizes = _shape(g, x, at.top[0])
    return [g.op("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="align_corners")]


def _shape(g: OnnxGraph, x: str, dims: Sequence[int | None]) -> str:
    """The shape as a value; N, where it is unknown, is that of x."""
    if None not in dims:
        return g.ints(*(dim or 0 for dim in dims))
    items = g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(1), g.ints(0))
    return g.op("Concat", items, g.ints(*(dim or 0 for dim in dims[1:])), axis=0)


@converts("Upsample")
def upsample(g: OnnxGraph, at: At) -> list[str]:
    if len(at.x) == 2:
        return [_by_mask(g, at)]
    scales = g.constant([1, 1, *at.layer.scale])
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [g.op("Resize", at.x[0], "", scales, **how)]


def _by_mask(g: OnnxGraph, at: At) -> str:
    """Each value at the position within its plane that the mask gives, zeros elsewhere."""
    n, c, h, w = at.top[0]
    assert h is not None and w is not None  # N alone can be unknown
    values, mask = (g.reshape(x, (n, c, -1 if n is not None else _area(at.bottom[0]))) for x in at.x)
    planes = g.op("Expand", g.constant(0), _shape(g, values, (n, c, h * w)))
    places = g.op("Cast", mask, to=INT64)
    return g.reshape(g.op("ScatterElements", planes, places, values, axis=2), at.top[0])


def _area(dims: Sequence[int | None]) -> int:
    return int(np.prod([dim for dim in dims[2:] if dim is not None]))


@converts("Unpooling", "UnPooling")
def unpooling(g: OnnxGraph, at: At) -> list[str]:
    """Windows side by side are a transposed convolution of each channel with ones, or with the first cell's one."""
    if len(at.x) == 2:
        return [_by_mask(g, at)]
    method, window, x = at.layer.param.unpooling_param.unpool, at.layer.window, at.x[0]
    size = [n or 0 for n in at.bottom[0][2:]]
    out = [n or 0 for n in at.top[0][2:]]
    if method == UnpoolingParameter.AVE:
        x = g.op("Div", x, g.constant(_cells(size, out, window.kernel, window.stride)))
    channels = at.bottom[0][1] or 0
    kernels = np.ones((channels, 1, *window.kernel), np.float32)
    if method == UnpoolingParameter.MAX:
        kernels[...] = 0
        kernels[:, :, 0, 0] = 1
    y = g.op("ConvTranspose", x, g.constant(kernels), group=channels, strides=list(window.stride))
    made = [(m - 1) * s + k for m, s, k in zip(size, window.stride, window.kernel)]
    if any(have > want for have, want in zip(made, out)):
        y = g.op("Slice", y, g.ints(0, 0), g.ints(*out), g.ints(2, 3))
    missing = [max(0, want - have) for have, want in zip(made, out)]
    return [g.op("Pad", y, g.ints(0, 0, 0, 0, 0, 0, *missing)) if any(missing) else y]


def _cells(size: Sequence[int], out: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """How many cells of the top each window has, (H, W)."""
    down, across = (
        np.minimum(n - np.arange(m) * s, k).astype(np.float32) for m, n, k, s in zip(size, out, kernel, stride)
    )
    return down[:, None] * across
