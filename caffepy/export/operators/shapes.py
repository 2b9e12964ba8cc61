"""Layers that move values about: joined, cut, reshaped, repeated, chosen."""

from __future__ import annotations

from itertools import pairwise

from caffepy.errors import ConfigError
from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import FLOAT, INT64, OnnxGraph


@converts("Input")
def inputs(g: OnnxGraph, at: At) -> list[str]:
    return list(at.node.top_names)


@converts("Parameter")
def parameter(g: OnnxGraph, at: At) -> list[str]:
    return [g.constant(at.weights[0])]


@converts("Concat")
def concat(g: OnnxGraph, at: At) -> list[str]:
    return [at.x[0] if len(at.x) == 1 else g.op("Concat", *at.x, axis=at.layer.axis)]


@converts("Slice")
def slices(g: OnnxGraph, at: At) -> list[str]:
    if len(at.top) == 1:
        return [at.x[0]]
    sizes = [stop - start for start, stop in pairwise(at.layer.bounds)]
    return g.ops("Split", at.x[0], g.ints(*sizes), count=len(at.top), axis=at.layer.axis)


@converts("Flatten", "Reshape")
def reshape(g: OnnxGraph, at: At) -> list[str]:
    return [g.reshape(at.x[0], at.top[0])]


@converts("Permute")
def permute(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Transpose", at.x[0], perm=list(at.layer.order))]


@converts("ShuffleChannel")
def shuffle_channel(g: OnnxGraph, at: At) -> list[str]:
    (items, channels, *size), group = at.bottom[0], at.layer.group
    assert channels is not None  # N alone can be unknown
    grouped = g.reshape(at.x[0], (items, group, channels // group, *size))
    return [g.reshape(g.op("Transpose", grouped, perm=[0, 2, 1, *range(3, at.rank + 1)]), at.top[0])]


@converts("Reorg")
def reorg(g: OnnxGraph, at: At) -> list[str]:
    layer, s = at.layer, at.layer.stride
    n, (c, h, w) = at.bottom[0][0], layer.read[1:]
    x = g.reshape(at.x[0], (n, c, h, w))
    if layer.to_channels:
        moved = g.op("Transpose", g.reshape(x, (n, c, h // s, s, w // s, s)), perm=[0, 3, 5, 1, 2, 4])
    else:
        moved = g.op("Transpose", g.reshape(x, (n, s, s, c // s**2, h, w)), perm=[0, 3, 4, 1, 5, 2])
    return [g.reshape(moved, at.top[0])]


@converts("Tile")
def tile(g: OnnxGraph, at: At) -> list[str]:
    repeats = [1] * at.rank
    p = at.layer.param.tile_param
    repeats[p.axis % at.rank] = p.tiles
    return [g.op("Tile", at.x[0], g.ints(*repeats))]


@converts("Crop")
def crop(g: OnnxGraph, at: At) -> list[str]:
    cut = [(i, at.layer.window[i]) for i in range(at.rank) if at.top[0][i] != at.bottom[0][i]]
    if not cut:
        return [g.op("Identity", at.x[0])]
    axes, starts, stops = zip(*((i, window.start, window.stop) for i, window in cut))
    return [g.op("Slice", at.x[0], g.ints(*starts), g.ints(*stops), g.ints(*axes))]


@converts("BatchReindex")
def batch_reindex(g: OnnxGraph, at: At) -> list[str]:
    return [g.op("Gather", at.x[0], g.op("Cast", at.x[1], to=INT64), axis=0)]


@converts("Filter")
def filtered(g: OnnxGraph, at: At) -> list[str]:
    chosen = g.op("Cast", g.reshape(at.x[-1], (-1,)), to=9)
    return [g.op("Compress", x, chosen, axis=0) for x in at.x[:-1]]


@converts("Reduction")
def reduction(g: OnnxGraph, at: At) -> list[str]:
    p, layer = at.layer.param.reduction_param, at.layer
    x = {p.ASUM: lambda: g.op("Abs", at.x[0]), p.SUMSQ: lambda: g.op("Mul", at.x[0], at.x[0])}.get(
        p.operation, lambda: at.x[0]
    )()
    kind = "ReduceMean" if p.operation == p.MEAN else "ReduceSum"
    y = g.reduce(kind, x, list(range(layer.axis, at.rank)), keep=False)
    return [y if p.coeff == 1 else g.op("Mul", y, g.constant(p.coeff))]


@converts("ArgMax")
def argmax(g: OnnxGraph, at: At) -> list[str]:
    """TopK takes the first of equal values, Caffe the last: so over the axis turned round."""
    p, axis = at.layer.param.argmax_param, at.layer.axis
    x = at.x[0] if axis is not None else g.op("Flatten", at.x[0], axis=1)
    dims = at.bottom[0] if axis is not None else (at.bottom[0][0], _product(at.bottom[0][1:]))
    along = 1 if axis is None else axis
    size = dims[along]
    if size is None:
        raise ConfigError("an ArgMax over the items cannot have a dynamic batch", hint="Add --no-dynamic-batch.")
    turned = g.op("Slice", x, g.ints(-1), g.ints(-size - 1), g.ints(along), g.ints(-1))
    values, index = g.ops("TopK", turned, g.ints(p.top_k), count=2, axis=along)
    number = g.op("Cast", g.op("Sub", g.ints(size - 1), index), to=FLOAT)
    if axis is not None:
        return [values if p.out_max_val else number]
    if not p.out_max_val:
        return [g.reshape(number, at.top[0])]
    both = [g.op("Unsqueeze", part, g.ints(1)) for part in (number, values)]
    return [g.reshape(g.op("Concat", *both, axis=1), at.top[0])]


def _product(dims) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total
