"""Functions of each element, and arithmetic of two arrays."""

from __future__ import annotations

import numpy as np

from caffepy.export.importing import Building, Op, reads
from caffepy.proto.caffe_pb2 import EltwiseParameter

PLAIN = {
    "Relu": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "TanH", "Abs": "AbsVal", "Softplus": "BNLL", "Exp": "Exp",
    "Log": "Log", "HardSwish": "HardSwish", "Mish": "Mish",
}  # fmt: skip
POWERS = {"Sqrt": (0.5, 1), "Reciprocal": (-1, 1), "Neg": (1, -1)}
"""Power and scale."""
LARGEST = float(np.finfo(np.float32).max)


@reads(*PLAIN)
def plain(b: Building, op: Op) -> str:
    return b.layer(PLAIN[op.kind], b.blob(op)).top[0]


@reads(*POWERS)
def fixed_power(b: Building, op: Op) -> str:
    power, scale = POWERS[op.kind]
    return power_layer(b, b.blob(op), power=power, scale=scale)


def power_layer(b: Building, blob: str, **fields: float) -> str:
    """(shift + scale x)^power"""
    layer = b.layer("Power", blob)
    for name, value in fields.items():
        setattr(layer.power_param, name, value)
    return layer.top[0]


@reads("Pow")
def pow_(b: Building, op: Op) -> str:
    exponent = np.asarray(op.constant(1))
    if exponent.size != 1:
        raise op.refused("only one exponent for all elements can be imported")
    return power_layer(b, b.blob(op), power=exponent.item())


@reads("LeakyRelu")
def leaky_relu(b: Building, op: Op) -> str:
    layer = b.layer("ReLU", b.blob(op))
    layer.relu_param.negative_slope = op.attribute("alpha", 0.01)
    return layer.top[0]


@reads("PRelu")
def prelu(b: Building, op: Op) -> str:
    slopes, shape = np.asarray(op.constant(1)), op.shape()
    if slopes.size not in (1, shape[1]) or (slopes.size > 1 and slopes.shape[-(len(shape) - 1)] != slopes.size):
        raise op.refused(f"slopes of shape {slopes.shape} are not one a channel of {shape}")
    layer = b.layer("PReLU", b.blob(op), blobs=[slopes.reshape(() if slopes.size == 1 else (-1,))])
    layer.prelu_param.channel_shared = slopes.size == 1
    return layer.top[0]


@reads("Elu")
def elu(b: Building, op: Op) -> str:
    layer = b.layer("ELU", b.blob(op))
    layer.elu_param.alpha = op.attribute("alpha", 1.0)
    return layer.top[0]


@reads("Selu")
def selu(b: Building, op: Op) -> str:
    from caffepy.layers.selu import ALPHA, SCALE

    given = op.attribute("alpha", ALPHA), op.attribute("gamma", SCALE)
    if not np.allclose(given, (ALPHA, SCALE), rtol=1e-6):
        raise op.refused(f"alpha {given[0]:g} and gamma {given[1]:g} are not those of SeLu")
    return b.layer("SeLu", b.blob(op)).top[0]


@reads("HardSigmoid")
def hard_sigmoid(b: Building, op: Op) -> str:
    layer = b.layer("HardSigmoid", b.blob(op))
    p = layer.hard_sigmoid_param
    p.alpha, p.beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    return layer.top[0]


@reads("Gelu")
def gelu(b: Building, op: Op) -> str:
    layer = b.layer("GELU", b.blob(op))
    layer.gelu_param.enable_bert_version = op.attribute("approximate", "none") == "tanh"
    return layer.top[0]


@reads("Clip")
def clip(b: Building, op: Op) -> str:
    low = float(np.asarray(op.constant(1, op.attribute("min", -LARGEST))))
    high = float(np.asarray(op.constant(2, op.attribute("max", LARGEST))))
    if (low, high) == (0, 6):
        return b.layer("ReLU6", b.blob(op)).top[0]
    layer = b.layer("Clip", b.blob(op))
    layer.clip_param.min, layer.clip_param.max = low, high
    return layer.top[0]


@reads("Sum", "Max")
def several(b: Building, op: Op) -> str:
    if any(op.shape(i) != op.out() for i in range(len(op.inputs))):
        raise op.refused("arrays of different shapes cannot be imported")
    blobs = [b.blob(op, i) for i in range(len(op.inputs))]
    kind = EltwiseParameter.SUM if op.kind == "Sum" else EltwiseParameter.MAX
    return blobs[0] if len(blobs) == 1 else _eltwise(b, kind, *blobs)


def _eltwise(b: Building, operation, *blobs: str, coeff: tuple[float, ...] = ()) -> str:
    layer = b.layer("Eltwise", *blobs)
    layer.eltwise_param.operation = operation
    layer.eltwise_param.coeff.extend(coeff)
    return layer.top[0]


@reads("Add", "Sub", "Mul", "Div")
def arithmetic(b: Building, op: Op) -> str:
    for i in (1, 0):
        if op.is_constant(i):
            return _with_constant(b, op, np.asarray(op.constant(i), np.float32), first=i == 0)
    left, right = b.blob(op), b.blob(op, 1)
    if op.kind == "Div":
        right = power_layer(b, right, power=-1)
    if op.shape() == op.shape(1):
        operation = EltwiseParameter.PROD if op.kind in ("Mul", "Div") else EltwiseParameter.SUM
        return _eltwise(b, operation, left, right, coeff=(1, -1) if op.kind == "Sub" else ())
    return _broadcast(b, op, left, right)


def _with_constant(b: Building, op: Op, values: np.ndarray, first: bool) -> str:
    """x + c and the like; `first` where the constant stands before the sign."""
    multiplies = op.kind in ("Mul", "Div")
    blob = b.blob(op, 1 if first else 0)
    if first and op.kind == "Sub":
        blob = power_layer(b, blob, scale=-1)
    elif first and op.kind == "Div":
        blob = power_layer(b, blob, power=-1)
    elif op.kind == "Sub":
        values = -values
    elif op.kind == "Div":
        values = 1 / values
    if values.size == 1 and len(op.out()) == len(op.shape(1 if first else 0)):
        return power_layer(b, blob, **{"scale" if multiplies else "shift": values.item()})
    axis, covered = _covered(op, op.out(), values.shape)
    layer = b.layer("Scale" if multiplies else "Bias", blob, blobs=[values.reshape(covered)])
    p = layer.scale_param if multiplies else layer.bias_param
    p.axis, p.num_axes = axis, len(covered)
    return layer.top[0]


def _covered(op: Op, shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The axes of `shape` that an array of shape `other` has values for: the first, and their extents."""
    full = (*[1] * (len(shape) - len(other)), *other)
    axes = [i for i, n in enumerate(full) if n != 1] or [max(0, len(shape) - 1)]
    first, last = axes[0], axes[-1] + 1
    if len(full) != len(shape) or full[first:last] != shape[first:last]:
        raise op.refused(f"arrays of shapes {shape} and {other} cannot be brought together by a layer")
    return first, shape[first:last]


def _broadcast(b: Building, op: Op, left: str, right: str) -> str:
    """One array over the other: the smaller goes to a Scale or a Bias as its second bottom."""
    shapes = op.shape(), op.shape(1)
    if shapes[0] != op.out():
        left, right, shapes = right, left, shapes[::-1]
        if op.kind == "Sub":
            left = power_layer(b, left, scale=-1)
    elif op.kind == "Sub":
        right = power_layer(b, right, scale=-1)
    if shapes[0] != op.out():
        raise op.refused(f"both arrays, {shapes[0]} and {shapes[1]}, would have to grow")
    axis, covered = _covered(op, shapes[0], shapes[1])
    if axis == 1 and shapes[1][:1] == shapes[0][:1] == (1,):  # one item that may become several
        axis, covered = 0, (1, *covered)
    if covered != shapes[1]:
        layer = b.layer("Reshape", right)
        layer.reshape_param.shape.dim.extend([0, *covered[1:]] if axis == 0 else covered)
        right = layer.top[0]
    multiplies = op.kind in ("Mul", "Div")
    layer = b.layer("Scale" if multiplies else "Bias", left, right)
    (layer.scale_param if multiplies else layer.bias_param).axis = axis
    return layer.top[0]
