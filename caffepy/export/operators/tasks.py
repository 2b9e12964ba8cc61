"""Layers of recommenders and of several tasks: features, factorization machines, experts and their gates."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.errors import ConfigError
from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import BOOL, FLOAT, INT64, OnnxGraph
from caffepy.layers.binary_cross_entropy import LEAST
from caffepy.layers.hash_ids import FIRST, MASK, SECOND, mixed
from caffepy.proto.caffe_pb2 import Combine, ExpertsParameter, LossParameter

# Features


@converts("Embed")
def embed(g: OnnxGraph, at: At) -> list[str]:
    p, table = at.layer.param.embed_param, g.constant(at.weights[0])
    if not p.combine:
        return [_biased(g, at, g.op("Gather", table, g.op("Cast", at.x[0], to=INT64), axis=0))]
    given = g.op("Cast", g.op("GreaterOrEqual", at.x[0], g.constant(0)), to=FLOAT)
    if len(at.x) > 1:
        given = g.op("Mul", given, _truth(g, at.x[1]))
    rows = g.op("Gather", table, g.op("Cast", g.op("Max", at.x[0], g.constant(0)), to=INT64), axis=0)
    listed = g.op("Mul", rows, g.op("Unsqueeze", given, g.ints(at.rank)))
    y = g.reduce("ReduceSum", listed, [at.rank - 1], keep=False)
    if p.combine == Combine.MEAN:
        y = g.op("Div", y, g.op("Max", g.reduce("ReduceSum", given, [at.rank - 1]), g.constant(1)))
    return [_biased(g, at, y)]


def _biased(g: OnnxGraph, at: At, y: str) -> str:
    return y if len(at.weights) == 1 else g.op("Add", y, g.constant(at.weights[1]))


def _truth(g: OnnxGraph, mask: str) -> str:
    """1 for what is not 0."""
    return g.op("Cast", g.op("Cast", mask, to=BOOL), to=FLOAT)


@converts("Bucketize")
def bucketize(g: OnnxGraph, at: At) -> list[str]:
    boundaries = g.constant(list(at.layer.param.bucketize_param.boundary))
    reached = g.op("GreaterOrEqual", g.op("Unsqueeze", at.x[0], g.ints(at.rank)), boundaries)
    return [g.reduce("ReduceSum", g.op("Cast", reached, to=FLOAT), [at.rank], keep=False)]


@converts("HashIds")
def hash_ids(g: OnnxGraph, at: At) -> list[str]:
    if g.opset < 18:
        raise ConfigError("HashIds needs ONNX's operator set 18, for BitwiseXor", hint="Export with --opset 18.")
    p = at.layer.param.hash_ids_param
    whole = g.op("Cast", at.x[0], to=INT64)
    low = _modulo(g, whole, MASK + 1)
    high = _modulo(g, g.op("Div", g.op("Sub", whole, low), _int(g, MASK + 1)), MASK + 1)
    first = _mixed(g, g.op("BitwiseXor", low, _int(g, mixed(p.seed))))
    found = _mixed(g, g.op("BitwiseXor", first, high))
    return [g.op("Cast", _modulo(g, found, p.num_buckets), to=FLOAT)]


def _mixed(g: OnnxGraph, h: str) -> str:
    """`layers.hash_ids.mixed` on int64 values of 32 bits."""
    for shift, factor in ((16, FIRST), (13, SECOND)):
        h = _times(g, _folded(g, h, shift), factor)
    return _folded(g, h, 16)


def _folded(g: OnnxGraph, h: str, shift: int) -> str:
    return g.op("BitwiseXor", h, g.op("Div", h, _int(g, 1 << shift)))


def _times(g: OnnxGraph, h: str, factor: int) -> str:
    """The lower 32 bits of h * factor, in halves, whose products int64 holds."""
    high = _modulo(g, g.op("Mul", h, _int(g, factor >> 16)), 1 << 16)
    low = g.op("Mul", h, _int(g, factor & 0xFFFF))
    return _modulo(g, g.op("Add", low, g.op("Mul", high, _int(g, 1 << 16))), MASK + 1)


def _modulo(g: OnnxGraph, x: str, number: int) -> str:
    return g.op("Mod", x, _int(g, number))


def _int(g: OnnxGraph, value: int) -> str:
    return g.constant(value, np.int64)


# Networks over features


@converts("FactorizationMachine")
def factorization_machine(g: OnnxGraph, at: At) -> list[str]:
    total = g.reduce("ReduceSum", at.x[0], [1], keep=False)
    of_sum = g.reduce("ReduceSum", g.op("Mul", total, total), [1])
    squares = g.reduce("ReduceSum", g.op("Mul", at.x[0], at.x[0]), [2], keep=False)
    pairs = g.op("Sub", of_sum, g.reduce("ReduceSum", squares, [1]))
    return [g.op("Mul", pairs, g.constant(0.5))]


@converts("Cross")
def cross(g: OnnxGraph, at: At) -> list[str]:
    x0, x = _rows(g, at.x[0], at.rank), _rows(g, at.x[-1], at.rank)
    inner = x
    for weights in reversed(at.weights[1 : at.layer.factors]):
        inner = g.op("Gemm", inner, g.constant(weights), transB=1)
    bias = [g.constant(values) for values in at.weights[at.layer.factors :]]
    u = g.op("Gemm", inner, g.constant(at.weights[0]), *bias, transB=1)
    y = g.op("Add", g.op("Mul", x0, u), x)
    return [y if at.rank == 2 else g.reshape(y, at.top[0])]


@converts("Dice")
def dice(g: OnnxGraph, at: At) -> list[str]:
    a, mean, variance = (values.reshape(at.layer.broadcast) for values in at.weights)
    inverse = 1 / np.sqrt(variance + at.layer.param.dice_param.eps)
    p = g.op("Sigmoid", g.op("Mul", g.op("Sub", at.x[0], g.constant(mean)), g.constant(inverse)))
    factor = g.op("Add", g.op("Mul", p, g.constant(1 - a)), g.constant(a))
    return [g.op("Mul", at.x[0], factor)]


def _rows(g: OnnxGraph, x: str, rank: int) -> str:
    """x (N, ...) as (N, K)."""
    return x if rank == 2 else g.op("Flatten", x, axis=1)


# Experts

_ACTIVATIONS = {ExpertsParameter.RELU: "Relu", ExpertsParameter.SIGMOID: "Sigmoid", ExpertsParameter.TANH: "Tanh"}


@converts("Experts")
def experts(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    activation = _ACTIVATIONS.get(layer.param.experts_param.activation)
    y = at.x[0] if layer.one_each else _rows(g, at.x[0], at.rank)
    for i in range(0, len(at.weights), layer.step):
        w, b = at.weights[i], at.weights[i + 1] if layer.step == 2 else None
        y = _each(g, y, w) if i or layer.one_each else _all(g, y, w)
        if b is not None:
            y = g.op("Add", y, g.constant(b))
        if activation:
            y = g.op(activation, y)
    return [y]


def _all(g: OnnxGraph, x: str, w: np.ndarray) -> str:
    """x (N, K) by all experts, w (E, O, K): (N, E, O)."""
    experts, outputs, inputs = w.shape
    product = g.op("Gemm", x, g.constant(w.reshape(experts * outputs, inputs)), transB=1)
    return g.reshape(product, (None, experts, outputs))


def _each(g: OnnxGraph, x: str, w: np.ndarray) -> str:
    """x (N, E, K), an input for each expert: (N, E, O)."""
    turned = g.op("Transpose", x, perm=[1, 0, 2])
    return g.op("Transpose", g.op("MatMul", turned, g.constant(w.transpose(0, 2, 1))), perm=[1, 0, 2])


@converts("Gate")
def gate(g: OnnxGraph, at: At) -> list[str]:
    parameters = [g.constant(values) for values in at.weights]
    shares = g.op("Softmax", g.op("Gemm", _rows(g, at.x[0], at.rank), *parameters, transB=1), axis=1)
    banks = at.x[1] if len(at.x) == 2 else g.op("Concat", *at.x[1:], axis=1)
    return [g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", shares, g.ints(1)), banks), g.ints(1))]


@converts("SNR")
def snr(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    z, is_open = (np.asarray(layer.engine.to_host(values)) for values in layer.connections())
    if layer.transforms:
        blocks = at.weights[1].reshape(layer.routes, layer.outputs, layer.experts, layer.depth)
        weights = (blocks * z[:, None, :, None]).reshape(at.weights[1].shape)
        product = g.op("Gemm", g.op("Flatten", at.x[0], axis=1), g.constant(weights), transB=1)
        u = g.reshape(product, (None, layer.routes, layer.outputs))
    else:
        u = g.op("MatMul", g.constant(z), at.x[0])
    return [u] if len(at.top) == 1 else [u, g.reshape(g.constant(is_open.sum()), ())]


# The loss


@converts("BinaryCrossEntropy")
def binary_cross_entropy(g: OnnxGraph, at: At) -> list[str]:
    x, target, *others = (g.op("Flatten", value, axis=0) for value in at.x)
    half, one = g.constant(0.5), g.constant(1)
    mask = g.op("Cast", others[0], to=BOOL) if others else ""
    if mask:
        x, target = (g.op("Where", mask, value, half) for value in (x, target))
    if at.layer.logits:
        losses = g.op("Sub", g.op("Softplus", x), g.op("Mul", x, target))
    else:
        p = g.op("Clip", x, g.constant(LEAST), g.constant(1 - LEAST))
        losses = g.op("Neg", g.op("Add", _log(g, target, p), _log(g, g.op("Sub", one, target), g.op("Sub", one, p))))
    factors = [g.op("Cast", mask, to=FLOAT)] if mask else []
    for factor in (*factors, *others[1:]):
        losses = g.op("Mul", losses, factor)
    total = g.reduce("ReduceSum", losses, [0, 1], keep=False)
    return [g.reshape(g.op("Div", total, _normalizer(g, at, factors)), ())]


def _log(g: OnnxGraph, factor: str, x: str) -> str:
    return g.op("Mul", factor, g.op("Log", x))


def _normalizer(g: OnnxGraph, at: At, mask: list[str]) -> str:
    mode, items = at.layer.mode, at.bottom[0][1:]
    if mode == LossParameter.VALID and mask:
        count = g.reduce("ReduceSum", mask[0], [0, 1], keep=False)
    elif mode in (LossParameter.VALID, LossParameter.FULL, LossParameter.BATCH_SIZE):
        each = prod(size or 1 for size in items) if mode == LossParameter.BATCH_SIZE else 1
        count = g.op("Div", g.op("Cast", g.op("Size", at.x[0]), to=FLOAT), g.constant(each))
    else:
        return g.constant(1)
    return g.op("Max", count, g.constant(1))
