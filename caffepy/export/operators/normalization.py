"""Normalizations, factors and offsets a channel, softmax."""

from __future__ import annotations

import numpy as np

from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import OnnxGraph
from caffepy.export.operators.pooling import pool
from caffepy.layers.bn import SEGNET_EPS


@converts("BatchNorm")
def batch_norm(g: OnnxGraph, at: At) -> list[str]:
    found = at.layer.affine()
    if found is None:
        return _of_batch(g, at, at.layer.param.batch_norm_param.eps)[:1]
    return [_times_plus(g, at, *found)]


@converts("BN")
def bn(g: OnnxGraph, at: At) -> list[str]:
    """SegNet's form may give its statistics as further tops."""
    found = at.layer.affine()
    if found is not None:
        given = [g.constant(np.full(dims, i), name=f"{at.node.layer.name}.{i}") for i, dims in enumerate(at.top[1:])]
        return [_times_plus(g, at, *found), *given]
    y, *statistics = _of_batch(g, at, SEGNET_EPS)
    y = _times_plus(g, at, at.layer.scale.host(), at.layer.shift.host(), y)
    return [y, *(g.reshape(x, (1, at.layer.channels, 1, 1)) for x in statistics[: len(at.top) - 1])]


def _of_batch(g: OnnxGraph, at: At, eps: float) -> list[str]:
    """x normalized with the moments of the batch itself, and these: mean and variance."""
    axes = [axis for axis in range(at.rank) if axis != 1]
    mean = g.reduce("ReduceMean", at.x[0], axes)
    centred = g.op("Sub", at.x[0], mean)
    variance = g.reduce("ReduceMean", g.op("Mul", centred, centred), axes)
    return [g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.constant(eps)))), mean, variance]


def _times_plus(g: OnnxGraph, at: At, factor: np.ndarray, offset: np.ndarray, x: str = "") -> str:
    shape = (1, -1, *[1] * (at.rank - 2))
    return g.op("Add", g.op("Mul", x or at.x[0], g.constant(factor.reshape(shape))), g.constant(offset.reshape(shape)))


@converts("Scale")
def scale(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    if len(at.x) > 1:
        factor = g.reshape(at.x[1], _spread(at, at.bottom[1]))
        offsets = at.weights
    else:
        factor, offsets = g.constant(at.weights[0].reshape(layer.broadcast)), at.weights[1:]
    y = g.op("Mul", at.x[0], factor)
    return [g.op("Add", y, g.constant(offsets[0].reshape(layer.broadcast))) if offsets else y]


@converts("Bias")
def bias(g: OnnxGraph, at: At) -> list[str]:
    if len(at.x) > 1:
        return [g.op("Add", at.x[0], g.reshape(at.x[1], _spread(at, at.bottom[1])))]
    return [g.op("Add", at.x[0], g.constant(at.weights[0].reshape(at.layer.broadcast)))]


def _spread(at: At, covered) -> list[int | None]:
    """The second bottom's shape with axes of 1 around it."""
    before = at.layer.axis
    return [*[1] * before, *covered, *[1] * (at.rank - before - len(covered))]


@converts("LRN")
def lrn(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.lrn_param
    if at.layer.across:
        return [g.op("LRN", at.x[0], alpha=p.alpha, beta=p.beta, bias=p.k, size=p.local_size)]
    mean = pool(g, g.op("Mul", at.x[0], at.x[0]), True, at.layer.window, at.bottom[0], at.top[0])
    base = g.op("Add", g.op("Mul", mean, g.constant(p.alpha)), g.constant(1))
    return [g.op("Div", at.x[0], g.op("Pow", base, g.constant(p.beta)))]


@converts("MVN")
def mvn(g: OnnxGraph, at: At) -> list[str]:
    p, axes = at.layer.param.mvn_param, list(at.layer.axes)
    x = at.x[0] if at.rank == 4 else g.reshape(at.x[0], at.top[0])
    centred = g.op("Sub", x, g.reduce("ReduceMean", x, axes))
    if not p.normalize_variance:
        return [centred]
    deviation = g.op("Sqrt", g.reduce("ReduceMean", g.op("Mul", centred, centred), axes))
    return [g.op("Div", centred, g.op("Add", deviation, g.constant(p.eps)))]


@converts("LayerNorm")
def layer_norm(g: OnnxGraph, at: At) -> list[str]:
    layer, axes = at.layer, list(range(at.layer.axis, at.rank))
    if g.opset >= 17 and layer.axis:
        scale, *shift = at.weights or [np.ones([dim or 1 for dim in at.bottom[0][layer.axis :]])]
        parameters = [g.constant(values) for values in (scale, *shift)]
        return [g.op("LayerNormalization", at.x[0], *parameters, axis=layer.axis, epsilon=layer.eps)]
    centred = g.op("Sub", at.x[0], g.reduce("ReduceMean", at.x[0], axes))
    variance = g.reduce("ReduceMean", g.op("Mul", centred, centred), axes)
    y = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.constant(layer.eps))))
    for kind, values in zip(("Mul", "Add"), at.weights):
        y = g.op(kind, y, g.constant(values))
    return [y]


@converts("Normalize")
def normalize(g: OnnxGraph, at: At) -> list[str]:
    squares = g.reduce("ReduceSum", g.op("Mul", at.x[0], at.x[0]), list(at.layer.axes))
    norm = g.op("Sqrt", g.op("Add", squares, g.constant(at.layer.param.norm_param.eps)))
    return [g.op("Mul", at.x[0], g.op("Div", g.constant(at.weights[0].reshape(1, -1, 1, 1)), norm))]


@converts("Softmax")
def softmax(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Softmax", at.x[0], axis=at.layer.axis)]
