"""Pooling with Caffe's windows: sizes rounded up, averages over what lies within in + pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffepy.errors import ConfigError
from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import FLOAT, OnnxGraph


@converts("Pooling")
def pooling(g: OnnxGraph, at: At) -> list[str]:
    layer, p = at.layer, at.layer.param.pooling_param
    if p.pool == p.STOCHASTIC:
        raise ConfigError("STOCHASTIC pooling cannot be exported", hint="Use AVE, which it resembles in TEST.")
    if p.global_pooling:
        tops = [g.op("GlobalAveragePool" if p.pool == p.AVE else "GlobalMaxPool", at.x[0])]
        return tops if len(at.top) == 1 else max_pool_with_mask(g, at)
    if len(at.top) > 1:
        return max_pool_with_mask(g, at)
    return [pool(g, at.x[0], p.pool == p.AVE, layer.window, at.bottom[0], at.top[0])]


def ends(window, size: Sequence[int], out: Sequence[int]) -> list[int]:
    """How far the last windows reach beyond the input, on each axis; not less than 0."""
    sides = list(zip(out, window.stride, window.kernel, size, window.pad))
    if any((o - 1) * stride - pad >= n for o, stride, _, n, pad in sides):
        raise ConfigError("a window that lies in the padding alone cannot be exported", hint="Make pad smaller.")
    return [max(0, (o - 1) * stride + kernel - n - pad) for o, stride, kernel, n, pad in sides]


def pool(g: OnnxGraph, x: str, average: bool, window, bottom, top) -> str:
    """Windows over (N, C, H, W): the largest value, or the sum over the area cut at in + pad."""
    end = ends(window, bottom[2:], top[2:])
    options = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
    if not average:
        return g.op("MaxPool", x, pads=[*window.pad, *end], **options)
    if any(window.pad):  # zeros that count, before those beyond them that do not
        x = g.op("Pad", x, g.ints(0, 0, *window.pad, 0, 0, *window.pad))
    beyond = [max(0, e - p) for e, p in zip(end, window.pad)]
    return g.op("AveragePool", x, pads=[0, 0, *beyond], count_include_pad=0, **options)


def max_pool_with_mask(g: OnnxGraph, at: At) -> list[str]:
    """Values and their index within H * W, which ONNX counts over the whole array."""
    window = at.layer.window
    size, out = [[dim or 0 for dim in dims[2:]] for dims in (at.bottom[0], at.top[0])]  # only N can be unknown
    end = ends(window, size, out)
    y, index = g.ops("MaxPool", at.x[0], count=2, kernel_shape=list(window.kernel), strides=list(window.stride),
                     pads=[*window.pad, *end])  # fmt: skip
    area = int(np.prod(size))
    return [y, g.op("Cast", g.op("Mod", index, g.ints(area)), to=FLOAT)]


@converts("SPP")
def spp(g: OnnxGraph, at: At) -> list[str]:
    layer, pieces = at.layer, []
    average = layer.param.spp_param.pool == layer.param.spp_param.AVE
    for inner, pooled in layer.levels:
        shape = (*at.bottom[0][:2], *pooled.shape[2:])
        y = pool(g, at.x[0], average, inner.window, at.bottom[0], shape)
        pieces.append(g.op("Flatten", y, axis=1))
    return [pieces[0] if len(pieces) == 1 else g.op("Concat", *pieces, axis=1)]
