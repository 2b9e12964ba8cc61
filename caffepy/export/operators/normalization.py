"""Normalizations, factors and offsets a channel, softmax."""

from __future__ import annotations

import numpy as np

from caffepy.export.convert import At, converts
from caffepy.export.graph import Graph
from caffepy.export.operators.pooling import pool
from caffepy.passes.folding import affine


@converts("BatchNorm")
def batch_norm(g: Graph, at: At) -> list[str]:
    found = affine(at.node)
    if found is None:
        return [_of_batch(g, at)]
    return [_times_plus(g, at, *found)]


def _of_batch(g: Graph, at: At) -> str:
    """With the moments of the batch itself (`use_global_stats: false`)."""
    axes = [axis for axis in range(at.rank) if axis != 1]
    centred = g.op("Sub", at.x[0], g.reduce("ReduceMean", at.x[0], axes))
    variance = g.reduce("ReduceMean", g.op("Mul", centred, centred), axes)
    eps = g.constant(at.layer.param.batch_norm_param.eps)
    return g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, eps)))


def _times_plus(g: Graph, at: At, factor: np.ndarray, offset: np.ndarray) -> str:
    shape = (1, -1, *[1] * (at.rank - 2))
    return g.op("Add", g.op("Mul", at.x[0], g.constant(factor.reshape(shape))), g.constant(offset.reshape(shape)))


@converts("Scale")
def scale(g: Graph, at: At) -> list[str]:
    layer = at.layer
    if len(at.x) > 1:
        factor = g.reshape(at.x[1], _spread(at, at.bottom[1]))
        offsets = at.weights
    else:
        factor, offsets = g.constant(at.weights[0].reshape(layer.broadcast)), at.weights[1:]
    y = g.op("Mul", at.x[0], factor)
    return [g.op("Add", y, g.constant(offsets[0].reshape(layer.broadcast))) if offsets else y]


@converts("Bias")
def bias(g: Graph, at: At) -> list[str]:
    if len(at.x) > 1:
        return [g.op("Add", at.x[0], g.reshape(at.x[1], _spread(at, at.bottom[1])))]
    return [g.op("Add", at.x[0], g.constant(at.weights[0].reshape(at.layer.broadcast)))]


def _spread(at: At, covered) -> list[int | None]:
    """The second bottom's shape with axes of 1 around it."""
    before = at.layer.axis
    return [*[1] * before, *covered, *[1] * (at.rank - before - len(covered))]


@converts("LRN")
def lrn(g: Graph, at: At) -> list[str]:
    p = at.layer.param.lrn_param
    if at.layer.across:
        return [g.op("LRN", at.x[0], alpha=p.alpha, beta=p.beta, bias=p.k, size=p.local_size)]
    mean = pool(g, g.op("Mul", at.x[0], at.x[0]), True, at.layer.window, at.bottom[0], at.top[0])
    base = g.op("Add", g.op("Mul", mean, g.constant(p.alpha)), g.constant(1))
    return [g.op("Div", at.x[0], g.op("Pow", base, g.constant(p.beta)))]


@converts("MVN")
def mvn(g: Graph, at: At) -> list[str]:
    p, axes = at.layer.param.mvn_param, list(at.layer.axes)
    x = at.x[0] if at.rank == 4 else g.reshape(at.x[0], at.top[0])
    centred = g.op("Sub", x, g.reduce("ReduceMean", x, axes))
    if not p.normalize_variance:
        return [centred]
    deviation = g.op("Sqrt", g.reduce("ReduceMean", g.op("Mul", centred, centred), axes))
    return [g.op("Div", centred, g.op("Add", deviation, g.constant(p.eps)))]


@converts("Softmax")
def softmax(g: Graph, at: At) -> list[str]:
    return [g.op("Softmax", at.x[0], axis=at.layer.axis)]
