"""Activations and other functions of each element."""

from __future__ import annotations

import math

from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import FLOAT, OnnxGraph


@converts("SeLuDropout", "Split")
def same(g: OnnxGraph, at: At) -> list[str]:
    return [at.x[0]] * len(at.top)


@converts("Dropout")
def dropout(g: OnnxGraph, at: At) -> list[str]:
    scale = at.layer.test_scale
    return [at.x[0] if scale == 1 else g.op("Mul", at.x[0], g.constant(scale))]


@converts("Silence")
def nothing(g: OnnxGraph, at: At) -> list[str]:
    return []


@converts("ReLU")
def relu(g: OnnxGraph, at: At) -> list[str]:
    slope = at.layer.param.relu_param.negative_slope
    return [g.op("LeakyRelu", at.x[0], alpha=slope) if slope else g.op("Relu", at.x[0])]


@converts("PReLU")
def prelu(g: OnnxGraph, at: At) -> list[str]:
    slopes = at.weights[0].reshape(-1, *[1] * (at.rank - 2))
    return [g.op("PRelu", at.x[0], g.constant(slopes))]


@converts("ELU")
def elu(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Elu", at.x[0], alpha=at.layer.param.elu_param.alpha)]


@converts("SeLu")
def selu(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Selu", at.x[0])]


@converts("ReLU6")
def relu6(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Clip", at.x[0], g.constant(0), g.constant(6))]


@converts("HardSigmoid")
def hard_sigmoid(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.hard_sigmoid_param
    return [g.op("HardSigmoid", at.x[0], alpha=p.alpha, beta=p.beta)]


@converts("HardSwish")
def hard_swish(g: OnnxGraph, at: At) -> list[str]:
    if g.opset >= 14:
        return [g.op("HardSwish", at.x[0])]
    return [g.op("Mul", at.x[0], g.op("HardSigmoid", at.x[0], alpha=1 / 6, beta=0.5))]


@converts("Mish")
def mish(g: OnnxGraph, at: At) -> list[str]:
    if g.opset >= 18:
        return [g.op("Mish", at.x[0])]
    return [g.op("Mul", at.x[0], g.op("Tanh", g.op("Softplus", at.x[0])))]


@converts("GELU")
def gelu(g: OnnxGraph, at: At) -> list[str]:
    approximate = at.layer.param.gelu_param.enable_bert_version
    if g.opset >= 20:
        return [g.op("Gelu", at.x[0], approximate="tanh" if approximate else "none")]
    if approximate:
        cube = g.op("Mul", g.op("Mul", at.x[0], at.x[0]), at.x[0])
        inner = _affine(g, g.op("Add", at.x[0], g.op("Mul", cube, g.constant(0.044715))), math.sqrt(2 / math.pi), 0)
        bell = g.op("Tanh", inner)
    else:
        bell = g.op("Erf", g.op("Mul", at.x[0], g.constant(math.sqrt(0.5))))
    return [g.op("Mul", at.x[0], _affine(g, bell, 0.5, 0.5))]


@converts("Sigmoid")
def sigmoid(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Sigmoid", at.x[0])]


@converts("TanH")
def tanh(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Tanh", at.x[0])]


@converts("AbsVal")
def absolute(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Abs", at.x[0])]


@converts("BNLL")
def bnll(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Softplus", at.x[0])]


@converts("Swish")
def swish(g: OnnxGraph, at: At) -> list[str]:
    beta = at.layer.param.swish_param.beta
    gate = at.x[0] if beta == 1 else g.op("Mul", at.x[0], g.constant(beta))
    return [g.op("Mul", at.x[0], g.op("Sigmoid", gate))]


@converts("Clip")
def clip(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.clip_param
    return [g.op("Clip", at.x[0], g.constant(p.min), g.constant(p.max))]


@converts("Threshold")
def threshold(g: OnnxGraph, at: At) -> list[str]:
    above = g.op("Greater", at.x[0], g.constant(at.layer.param.threshold_param.threshold))
    return [g.op("Cast", above, to=FLOAT)]


@converts("Power")
def power(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.power_param
    y = _affine(g, at.x[0], p.scale, p.shift)
    return [y if p.power == 1 else g.op("Pow", y, g.constant(p.power))]


@converts("Exp")
def exp(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.exp_param
    base = 1.0 if p.base == -1 else math.log(p.base)
    return [g.op("Exp", _affine(g, at.x[0], p.scale * base, p.shift * base))]


@converts("Log")
def log(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.log_param
    y = g.op("Log", _affine(g, at.x[0], p.scale, p.shift))
    return [y if p.base == -1 else _affine(g, y, 1 / math.log(p.base), 0)]


def _affine(g: OnnxGraph, x: str, factor: float, offset: float) -> str:
    """factor * x + offset, an operator in any case: what is returned has a name of its own."""
    if factor != 1 or offset == 0:
        x = g.op("Mul", x, g.constant(factor))
    return g.op("Add", x, g.constant(offset)) if offset else x


@converts("Axpy")
def axpy(g: OnnxGraph, at: At) -> list[str]:
    """The factor (N, C) with an axis of one for each further axis of x."""
    factor = g.reshape(at.x[0], (*at.bottom[1][:2], *[1] * (len(at.bottom[1]) - 2)))
    return [g.op("Add", g.op("Mul", factor, at.x[1]), at.x[2])]


@converts("Eltwise")
def eltwise(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.eltwise_param
    kind = {p.PROD: "Mul", p.SUM: "Add", p.MAX: "Max"}[p.operation]
    x = at.x
    if p.operation == p.SUM:
        x = [v if c == 1 else g.op("Mul", v, g.constant(c)) for v, c in zip(x, at.layer.coeffs)]
    y = x[0]
    for other in x[1:]:
        y = g.op(kind, y, other)
    return [y]
