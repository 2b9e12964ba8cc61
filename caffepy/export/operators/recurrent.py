"""RNN, LSTM and GRU: the operator of the name over the whole sequence, or step by step where markers cut the state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffepy.errors import ConfigError
from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import FLOAT, INT32, INT64, OnnxGraph
from caffepy.layers.cell import Cell
from caffepy.proto.caffe_pb2 import RecurrentParameter


def _reordered(*order: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.concatenate([np.split(values, len(order))[i] for i in order])


# ONNX has i, o, f, c where Caffe has i, f, o, g, and z, r, h where GRU has r, z, n.
ORDER = {"RNN": _reordered(0), "LSTM": _reordered(0, 2, 1, 3), "GRU": _reordered(1, 0, 2)}


@converts("LSTM", "RNN", "GRU", fixed_batch=True)
def recurrent(g: OnnxGraph, at: At) -> list[str]:
    layer, (steps, items) = at.layer, at.bottom[0][:2]
    if layer.param.recurrent_param.layer_norm:
        raise ConfigError("an LSTM with layer_norm has no operator in ONNX", hint="Train it without, to export it.")
    x = g.reshape(at.x[0], (steps, items, layer.depth))
    first = layer.first_state
    given = at.x[first:] if layer.exposed else []
    finals: list[list[str]] = []
    number = 0
    for ways in layer.layers:
        outputs = []
        for cell in ways:
            one = Direction(g, at, cell)
            states = [one.slice(state, number) for state in given] or [one.zero() for _ in layer.state_names]
            y, ends = one.run(x, at.x[2] if cell.static_depth else "", states)
            outputs.append(y)
            finals.append(ends)
            number += 1
        x = g.op("Concat", *outputs, axis=2) if len(outputs) > 1 else outputs[0]
    tops = [g.op("Concat", *ends, axis=0) if number > 1 else ends[0] for ends in zip(*finals)]
    return [x, *(tops if layer.exposed else [])]


class Direction:
    """A direction of a layer in the graph."""

    def __init__(self, g: OnnxGraph, at: At, cell: Cell):
        self.g, self.at, self.layer, self.cell = g, at, at.layer, cell
        steps, items = at.bottom[0][:2]
        assert steps is not None and items is not None  # the batch is fixed
        self.steps, self.items = steps, items
        self.kind, self.order = at.layer.type, ORDER[at.layer.type]
        self._shared: list[str] = []

    def zero(self) -> str:
        return self.g.constant(np.zeros((1, self.items, self.cell.size)))

    def slice(self, states: str, number: int) -> str:
        """The state of this direction, of those of all."""
        if len(self.layer.cells) == 1:
            return states
        return self.g.op("Slice", states, *(self.g.ints(value) for value in (number, number + 1, 0)))

    def run(self, x: str, static: str, states: list[str]) -> tuple[str, list[str]]:
        """y (T, N, D) and the final states (1, N, D)."""
        g, marked = self.g, self.layer.has_markers
        if static:  # further inputs of every step
            static = g.reshape(static, (1, self.items, self.cell.static_depth))
            x = g.op("Concat", x, g.op("Tile", static, g.ints(self.steps, 1, 1)), axis=2)
        if marked and len(self.at.bottom[1]) == 2:
            h, states = self._unrolled(x, states)
            return self._projected(h, ""), states
        lengths = g.op("Cast", self.at.x[1], to=INT32) if marked else ""
        left = marked and self.layer.param.recurrent_param.padding == RecurrentParameter.LEFT
        turned = self._turned(x, self._input_depth, -1) if left else x
        y, *states = self._operator(turned, states, lengths, "reverse" if self.cell.reverse else "forward")
        y = g.reshape(y, (self.steps, self.items, self.cell.size))
        if left:
            y = self._turned(y, self.cell.size, 1)
        return self._projected(y, lengths), states

    @property
    def _input_depth(self) -> int:
        return self.cell.depth + self.cell.static_depth

    def _weights(self) -> list[str]:
        """W, R, B as the operator takes them."""
        cell, weights = self.cell, self.at.weights[self.cell.first :]
        w, b, r = weights[0], weights[1], weights[cell.recurrent_weight]
        if cell.static_depth:
            w = np.concatenate([w, weights[2]], axis=1)
        b_h = weights[cell.further] if self.kind == "GRU" else np.zeros_like(b)
        return [self.g.constant(value[None]) for value in (
            self.order(w), self.order(r), np.concatenate([self.order(b), self.order(b_h)]))]  # fmt: skip

    def _operator(self, x: str, states: list[str], lengths: str = "", direction: str = "forward") -> list[str]:
        """Y (T, 1, N, D), and the final states."""
        if not self._shared:
            self._shared = self._weights()
        more, attributes = list(states), {}
        if self.layer.param.recurrent_param.peephole:
            i, f, o = self.at.weights[self.cell.first + self.cell.further]
            more.append(self.g.constant(np.concatenate([i, o, f])[None]))
        if self.kind == "GRU":
            attributes = {"linear_before_reset": 1}
        return self.g.ops(
            self.kind, x, *self._shared, lengths, *more, count=1 + len(states), hidden_size=self.cell.size,
            direction=direction, **attributes,
        )  # fmt: skip

    def _unrolled(self, x: str, states: list[str]) -> tuple[str, list[str]]:
        """h of all steps, an operator a step: markers multiply the state before each, either way."""
        g, steps = self.g, self.steps
        one = g.ints(*[1] * steps)
        inputs = g.ops("Split", x, one, count=steps, axis=0) if steps > 1 else [x]
        marks = g.reshape(self.at.x[1], (steps, self.items, 1))
        markers = g.ops("Split", marks, one, count=steps, axis=0) if steps > 1 else [marks]
        outputs = [""] * steps
        for t in self._order():
            before = t + 1 if self.cell.reverse else t
            if before < steps:  # before the last step, backwards, nothing is cut
                states = [g.op("Mul", state, markers[before]) for state in states]
            _, *states = self._operator(inputs[t], states)
            outputs[t] = states[0]
        return (g.op("Concat", *outputs, axis=0) if steps > 1 else outputs[0]), states

    def _order(self) -> range:
        return range(self.steps - 1, -1, -1) if self.cell.reverse else range(self.steps)

    def _turned(self, x: str, depth: int, way: int) -> str:
        """x (T, N, depth) with each sequence moved from the end to the front (-1), or back (1)."""
        g, shape = self.g, (self.steps, self.items, depth)
        gap = g.op("Sub", g.ints(self.steps), g.op("Cast", self.at.x[1], to=INT64))
        step = g.constant(np.arange(self.steps)[:, None], np.int64)
        moved = g.op("Add", step, gap) if way < 0 else g.op("Sub", step, gap)
        index = g.op("Mod", moved, g.ints(self.steps))
        index = g.op("Expand", g.reshape(index, (self.steps, self.items, 1)), g.ints(*shape))
        return g.op("GatherElements", x, index, axis=0)

    def _projected(self, h: str, lengths: str) -> str:
        """RNN puts out tanh(W_ho h + b_o), 0 in the padding."""
        if self.kind != "RNN" or self.layer.param.recurrent_param.hidden_top:
            return h
        g, size = self.g, self.cell.size
        weights = self.at.weights[self.cell.first + self.cell.further :][:2]
        rows = g.reshape(h, (self.steps * self.items, size))
        y = g.op("Tanh", g.op("Gemm", rows, *(g.constant(values) for values in weights), transB=1))
        y = g.reshape(y, (self.steps, self.items, size))
        if not lengths:
            return y
        step = np.arange(self.steps)[:, None]
        left = self.layer.param.recurrent_param.padding == RecurrentParameter.LEFT
        place = g.constant(self.steps - 1 - step if left else step, np.int32)
        there = g.op("Cast", g.op("Less", place, lengths), to=FLOAT)
        return g.op("Mul", y, g.reshape(there, (self.steps, self.items, 1)))


@converts("LSTMUnit")
def lstm_unit(g: OnnxGraph, at: At) -> list[str]:
    """c = f m c_prev + i g, h = o tanh(c)."""
    gates = g.ops("Split", at.x[1], count=4, axis=2, num_outputs=4 if g.opset >= 18 else None)
    i, f, o = (g.op("Sigmoid", gate) for gate in gates[:3])
    marker = g.reshape(at.x[2], (1, at.bottom[0][1], 1))
    kept = g.op("Mul", g.op("Mul", f, marker), at.x[0])
    c = g.op("Add", kept, g.op("Mul", i, g.op("Tanh", gates[3])))
    return [c, g.op("Mul", o, g.op("Tanh", c))]
