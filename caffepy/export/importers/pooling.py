"""Pooling, whose sizes Caffe rounds up unless it is told otherwise."""

from __future__ import annotations

from caffepy.export.importers.products import _pads
from caffepy.export.importing import Building, Op, reads
from caffepy.layers.pooling import pooled_size
from caffepy.proto.caffe_pb2 import PoolingParameter


@reads("GlobalAveragePool", "GlobalMaxPool")
def global_pool(b: Building, op: Op) -> str:
    return whole(b, op, PoolingParameter.AVE if op.kind == "GlobalAveragePool" else PoolingParameter.MAX)


def whole(b: Building, op: Op, method) -> str:
    layer = b.layer("Pooling", b.blob(op))
    layer.pooling_param.pool, layer.pooling_param.global_pooling = method, True
    return layer.top[0]


@reads("MaxPool", "AveragePool")
def pool(b: Building, op: Op) -> str:
    kernel = list(op.attribute("kernel_shape"))
    if len(kernel) != 2 or len(op.outputs) > 1 or any(d != 1 for d in op.attribute("dilations", [1])):
        raise op.refused("Pooling has two axes, one output and no dilation")
    source, begins = _zeros_around(b, op)
    stride, pads = list(op.attribute("strides", [1, 1])), _pads(op, tuple(kernel))
    average = op.kind == "AveragePool"
    counts = op.attribute("count_include_pad", 0)
    if average and any(pads[:2]) and (not counts or any(begins)):
        raise op.refused("a mean that leaves out the padding is none of Pooling's", "Export with count_include_pad.")
    pad = [p + q for p, q in zip(pads, begins)]
    size = [n + p for n, p in zip(op.shape()[2:], [0, 0])] if not source else _size(b, op)
    layer = b.layer("Pooling", source or b.blob(op))
    p = layer.pooling_param
    p.pool = PoolingParameter.AVE if average else PoolingParameter.MAX
    for name, values in (("kernel", kernel), ("stride", stride), ("pad", pad)):
        _set_pair(p, name, values)
    _round(op, p, size, kernel, stride, pad, average and counts)
    return layer.top[0]


def _zeros_around(b: Building, op: Op) -> tuple[str, list[int]]:
    """The blob inside the zeros that are put around the input, if any, and how many there are."""
    if op.inputs[0] not in b.padded:
        return "", [0, 0]
    source, around = b.padded[op.inputs[0]]
    begins, ends = around[:4], around[4:]
    if op.kind != "AveragePool" or begins != ends or any(begins[:2]):
        raise op.refused("zeros that differ at the ends of an axis cannot be put around a Pooling's input")
    return source, begins[2:]


def _size(b: Building, op: Op) -> list[int]:
    around = b.padded[op.inputs[0]][1]
    return [n - 2 * p for n, p in zip(op.shape()[2:], around[2:4])]


def _round(op: Op, p: PoolingParameter, size, kernel, stride, pad, cut_at_end: bool) -> None:
    """Up or down, whichever gives the size that the model has. With `cut_at_end` zeros behind the end count."""
    sides = list(zip(size, kernel, stride, pad))
    found = {ceil: tuple(pooled_size(*side, any(pad), ceil) for side in sides) for ceil in (True, False)}
    wanted = op.out()[2:]
    rounds = [ceil for ceil in (True, False) if found[ceil] == wanted]
    if not rounds:
        raise op.refused(f"its output has {wanted[0]}x{wanted[1]}, a Pooling's would have {found[True]}")
    asked = bool(op.attribute("ceil_mode", 0)) or _goes_on(op, sides, wanted)
    # Where both give this size the model's own rule counts, for inputs of other sizes.
    ceil = asked if asked in rounds else rounds[0]
    if cut_at_end and any((o - 1) * s + k > n + 2 * q for o, (n, k, s, q) in zip(wanted, sides)):
        raise op.refused("its last windows reach beyond the padding, and count it")
    if not ceil and any(s > 1 for s in stride):
        p.round_mode = PoolingParameter.FLOOR


def _goes_on(op: Op, sides, wanted) -> bool:
    """Whether windows reach beyond what the beginning's padding gives at the end."""
    return any((o - 1) * s + k > n + 2 * q for o, (n, k, s, q) in zip(wanted, sides))


def _set_pair(p: PoolingParameter, name: str, values: list[int]) -> None:
    down, across = values
    if down == across:
        if name == "kernel" or down != {"stride": 1, "pad": 0}[name]:
            setattr(p, "kernel_size" if name == "kernel" else name, down)
    else:
        setattr(p, f"{name}_h", down)
        setattr(p, f"{name}_w", across)


@reads("ReduceMean", "ReduceSum")
def reduce(b: Building, op: Op) -> str:
    from caffepy.export.importers.shapes import reshaped
    from caffepy.proto.caffe_pb2 import ReductionParameter

    rank = len(op.shape())
    axes = op.listed("axes", 1)
    axes = sorted(axis % rank for axis in axes) if axes else list(range(rank))
    if op.kind == "ReduceMean" and rank == 4 and axes == [2, 3]:
        top = whole(b, op, PoolingParameter.AVE)
        return top if op.attribute("keepdims", 1) else reshaped(b, op, top, op.out())
    if axes != list(range(axes[0], rank)):
        raise op.refused(f"only the last axes can be reduced, not {axes} of {rank}")
    layer = b.layer("Reduction", b.blob(op))
    p = layer.reduction_param
    p.axis = axes[0]
    p.operation = ReductionParameter.MEAN if op.kind == "ReduceMean" else ReductionParameter.SUM
    return reshaped(b, op, layer.top[0], op.out()) if op.attribute("keepdims", 1) else layer.top[0]
