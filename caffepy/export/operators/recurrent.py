"""LSTM and RNN: the operator of the name for every step, since Caffe's markers can cut the state before each."""

from __future__ import annotations

import numpy as np

from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import OnnxGraph


@converts("LSTM", fixed_batch=True)
def lstm(g: OnnxGraph, at: At) -> list[str]:
    return _unrolled(g, at, "LSTM", _lstm_order)


@converts("RNN", fixed_batch=True)
def rnn(g: OnnxGraph, at: At) -> list[str]:
    h, *states = _unrolled(g, at, "RNN", lambda weights: weights)
    layer, (steps, items) = at.layer, at.bottom[0][:2]
    rows = g.reshape(h, (_count(steps) * _count(items), layer.size))
    weights = [g.constant(values) for values in at.weights[layer.cells[0].further :][:2]]
    y = g.op("Tanh", g.op("Gemm", rows, *weights, transB=1))
    return [g.reshape(y, at.top[0]), *states]


@converts("LSTMUnit")
def lstm_unit(g: OnnxGraph, at: At) -> list[str]:
    """c = f m c_prev + i g, h = o tanh(c)."""
    gates = g.ops("Split", at.x[1], count=4, axis=2, num_outputs=4 if g.opset >= 18 else None)
    i, f, o = (g.op("Sigmoid", gate) for gate in gates[:3])
    marker = g.reshape(at.x[2], (1, at.bottom[0][1], 1))
    kept = g.op("Mul", g.op("Mul", f, marker), at.x[0])
    c = g.op("Add", kept, g.op("Mul", i, g.op("Tanh", gates[3])))
    return [c, g.op("Mul", o, g.op("Tanh", c))]


def _lstm_order(weights: np.ndarray) -> np.ndarray:
    """Rows i, f, o, g as ONNX has them: i, o, f, c."""
    i, f, o, c = np.split(weights, 4)
    return np.concatenate([i, o, f, c])


def _count(dim: int | None) -> int:
    assert dim is not None  # the batch is fixed
    return dim


def _unrolled(g: OnnxGraph, at: At, kind: str, order) -> list[str]:
    """h of all steps (T, N, D), and where the layer exposes them the states after the last."""
    layer = at.layer
    steps, items = at.bottom[0][:2]
    steps, items = _count(steps), _count(items)
    w, b, r = at.weights[0], at.weights[1], at.weights[layer.cells[0].recurrent_weight]
    x = g.reshape(at.x[0], (steps, items, layer.depth))
    if layer.has_static:  # further inputs of every step
        static = g.reshape(at.x[2], (1, items, layer.static_depth))
        x = g.op("Concat", x, g.op("Tile", static, g.ints(steps, 1, 1)), axis=2)
        w = np.concatenate([w, at.weights[2]], axis=1)
    names = [g.constant(order(w)[None]), g.constant(order(r)[None])]
    bias = g.constant(np.concatenate([order(b), np.zeros_like(b)])[None])
    zero = g.constant(np.zeros((1, items, layer.size)))
    states = list(at.x[2 + layer.has_static :]) if layer.exposed else [zero for _ in layer.state_names]
    inputs = g.ops("Split", x, g.ints(*[1] * steps), count=steps, axis=0) if steps > 1 else [x]
    marks = g.reshape(at.x[1], (steps, items, 1))
    markers = g.ops("Split", marks, g.ints(*[1] * steps), count=steps, axis=0) if steps > 1 else [marks]
    outputs = []
    for value, marker in zip(inputs, markers):
        states = [g.op("Mul", state, marker) for state in states]
        _, *states = g.ops(kind, value, *names, bias, "", *states, count=1 + len(states), hidden_size=layer.size)
        outputs.append(states[0])
    h = g.op("Concat", *outputs, axis=0) if steps > 1 else outputs[0]
    return [h, *(states if layer.exposed else [])]
