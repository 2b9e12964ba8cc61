"""Attention, positions, and steps that are turned round or chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffepy.export.convert import At, Dims, converts
from caffepy.export.onnx_graph import FLOAT, INT64, OnnxGraph
from caffepy.proto.caffe_pb2 import PositionalEmbeddingParameter


def _time_first(layer: Any) -> bool:
    return layer.axis == 0


@converts("Attention", fixed_batch=_time_first)
def attention(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    steps, keys = layer.lengths
    shapes, x = at.bottom[:3], at.x[:3]
    if layer.packed:
        depth = at.bottom[0][2]
        assert depth is not None
        shapes = [(*at.bottom[0][:2], depth // 3)] * 3
        x = g.ops("Split", at.x[0], g.ints(*[depth // 3] * 3), count=3, axis=2)
    q, k, v = (_heads(g, at, value, dims, name == "k") for value, dims, name in zip(x, shapes, "qkv"))
    scores = g.op("MatMul", g.op("Mul", q, g.constant(layer.scale)), k)
    seen = _seen(g, at, steps, keys)
    if seen:
        scores = g.op("Where", seen, scores, g.constant(-3e38))
    p = g.op("Softmax", scores, axis=3)
    if seen:  # where nothing is seen the sum is 0, not 1
        p = g.op("Mul", p, g.op("Cast", seen, to=FLOAT))
    y = g.op("Transpose", g.op("MatMul", p, v), perm=[2, 0, 1, 3] if layer.axis == 0 else [0, 2, 1, 3])
    return [g.reshape(y, at.top[0])]


def _heads(g: OnnxGraph, at: At, x: str, dims: Dims, transposed: bool) -> str:
    """(N, h, T, d), `transposed` (N, h, d, T)."""
    h, depth = at.layer.num_heads, dims[2]
    assert depth is not None
    order = [1, 2, 0, 3] if at.layer.axis == 0 else [0, 2, 1, 3]
    if transposed:
        order[2:] = order[:1:-1]
    return g.op("Transpose", g.reshape(x, (*dims[:2], h, depth // h)), perm=order)


def _seen(g: OnnxGraph, at: At, steps: int, keys: int) -> str:
    """(1 or N, 1, 1 or T, S): which keys are seen; "" where all are."""
    layer, seen = at.layer, ""
    if layer.param.attention_param.causal:
        place = np.arange(keys) <= np.arange(steps)[:, None] + keys - steps
        seen = g.constant(place[None, None], bool)
    if not layer.masked:
        return seen
    there = _present(g, at, len(at.x) - 1, keys)
    there = g.reshape(there, (at.bottom[0][1 - layer.axis], 1, 1, keys))
    return g.op("And", seen, there) if seen else there


def _present(g: OnnxGraph, at: At, i: int, steps: int) -> str:
    """(N, T) whether a step is there, of lengths or markers."""
    if len(at.bottom[i]) == 1:
        place = g.constant(np.arange(steps)[None])
        return g.op("Less", place, g.reshape(at.x[i], (at.bottom[i][0], 1)))
    markers = g.op("Transpose", at.x[i], perm=[1, 0]) if at.layer.axis == 0 else at.x[i]
    return g.op("Greater", markers, g.constant(0))


@converts("PositionalEmbedding", fixed_batch=_time_first)
def positional_embedding(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    if layer.mode == PositionalEmbeddingParameter.ROTARY:
        return [_turned(g, at, x, dims) for x, dims in zip(at.x, at.bottom)]
    table = at.weights[0][: layer.steps] if at.weights else layer.added(at.bottom[0][2])
    return [g.op("Add", at.x[0], g.constant(table[:, None] if layer.axis == 0 else table[None]))]


def _turned(g: OnnxGraph, at: At, x: str, dims: Dims) -> str:
    layer, p, depth = at.layer, at.layer.param.positional_embedding_param, dims[2]
    assert depth is not None
    cos, sin = (a[:, None, None] if layer.axis == 0 else a[None, :, None] for a in layer.rotation(depth))
    pairs = depth // p.num_heads // 2
    inner = (pairs, 2) if p.interleaved else (2, pairs)
    x = g.reshape(x, (*dims[:2], p.num_heads, *inner))
    axis = 4 if p.interleaved else 3
    a, b = (
        g.reshape(half, (*dims[:2], p.num_heads, pairs)) for half in g.ops("Split", x, g.ints(1, 1), count=2, axis=axis)
    )
    c, s = g.constant(cos), g.constant(sin)
    first = g.op("Sub", g.op("Mul", a, c), g.op("Mul", b, s))
    second = g.op("Add", g.op("Mul", a, s), g.op("Mul", b, c))
    shape: Sequence[int | None] = (*dims[:2], p.num_heads, *((pairs, 1) if p.interleaved else (1, pairs)))
    joined = g.op("Concat", *(g.reshape(half, shape) for half in (first, second)), axis=axis)
    return g.reshape(joined, dims)


@converts("Reverse", fixed_batch=_time_first)
def reverse(g: OnnxGraph, at: At) -> list[str]:
    axis = at.layer.axis
    if len(at.x) == 1:
        last = np.iinfo(np.int64)
        return [g.op("Slice", at.x[0], *(g.ints(value) for value in (last.max, last.min, axis, -1)))]
    steps = at.bottom[0][axis]
    assert steps is not None
    there = g.op("Cast", _present(g, at, 1, steps), to=INT64)
    lengths = g.reduce("ReduceSum", there, [1], keep=False)
    # Of no step nothing is turned, as of one; the operator takes no 0.
    lengths = g.op("Max", lengths, g.ints(1))
    return [g.op("ReverseSequence", at.x[0], lengths, time_axis=axis, batch_axis=1 - axis)]


@converts("SelectStep", "LastStep", fixed_batch=_time_first)
def select_step(g: OnnxGraph, at: At) -> list[str]:
    layer, (axis, steps) = at.layer, (at.layer.axis, at.layer.steps)
    if len(at.x) == 1:
        return [g.op("Gather", at.x[0], g.constant(layer.param.select_step_param.step % steps, np.int64), axis=axis)]
    items = at.bottom[0][1 - axis]
    x = g.op("Transpose", at.x[0], perm=[1, 0, *range(2, at.rank)]) if axis == 0 else at.x[0]
    if layer.type == "SelectStep":
        step = g.reshape(g.op("Cast", at.x[1], to=INT64), (items, 1))
        return [g.op("GatherND", x, step, batch_dims=1)]
    there = g.op("Cast", _present(g, at, 1, steps), to=FLOAT)
    numbered = g.op("Mul", there, g.constant(np.arange(1, steps + 1)[None]))
    last = g.reduce("ReduceMax", numbered, [1])  # 0 where no step is there
    step = g.op("Cast", g.op("Max", g.op("Sub", last, g.constant(1)), g.constant(0)), to=INT64)
    y = g.op("GatherND", x, step, batch_dims=1)
    found = g.op("Min", last, g.constant(1))
    return [g.op("Mul", y, g.reshape(found, (items, *[1] * (at.rank - 2))))]
