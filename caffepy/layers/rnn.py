"""RNN: h = tanh(W_xh x + b_h + W_hh h'), y = tanh(W_ho h + b_o)."""

from __future__ import annotations

from caffepy.engine import Engine
from caffepy.layers.cell import Summed
from caffepy.layers.recurrent import Recurrent
from caffepy.net.blob import Array
from caffepy.net.layer import Layer, register


def tanh_of_sum(xp, x, bias):
    return xp.tanh(x + bias)


def tanh(xp, x):
    return xp.tanh(x)


def tanh_grad(xp, dy, y):
    return dy * (1 - y * y)


class RNNCell(Summed):
    gates = 1
    state_names = ("h",)

    def __init__(self, layer: Layer, depth: int, static_depth: int, reverse: bool):
        super().__init__(layer, depth, static_depth, reverse)
        p = layer.param.recurrent_param
        self.projects = not p.hidden_top
        if self.projects:
            layer.add_blob((self.size, self.size), p.weight_filler)
            layer.add_blob((self.size,), p.bias_filler)

    def allocate(self, steps: int, items: int) -> None:
        super().allocate(steps, items)
        if self.projects:
            self.y, self.dy, self.dh = (self.new(steps * items, self.size) for _ in range(3))

    def step(self, engine: Engine, t: int, at: slice, h: Array) -> None:
        engine.gemm(h, self.weights, self.z[t, at, ...], accumulate=True)
        engine.map(tanh, self.z[t, at, ...], out=self.states[0][self.after(t), at, ...])

    def output(self, y: Array) -> None:
        if not self.projects:
            super().output(y)
            return
        weight, bias = (self.parameter(self.further + i) for i in range(2))
        self.engine.gemm(self.flat(self.hidden()), weight.T, self.y)
        self.engine.map(tanh_of_sum, self.y, bias, out=self.y)
        y[...] = self.y.reshape(y.shape)

    def output_gradient(self, dy: Array) -> Array:
        if not self.projects:
            return dy
        weight = self.further
        self.engine.map(tanh_grad, self.flat(dy), self.y, out=self.dy)
        self.add_product(weight, self.dy, self.flat(self.hidden()))
        if self.learns(weight + 1):
            self.engine.add_sum_over_channels(self.dy, self.gradient(weight + 1))
        self.engine.gemm(self.dy, self.parameter(weight), self.dh)
        return self.dh.reshape(dy.shape)

    def step_gradient(self, engine: Engine, t: int, at: slice, carry: list[Array]) -> None:
        engine.map(tanh_grad, carry[0], self.states[0][self.after(t), at, ...], out=self.dz[t, at, ...])


@register("RNN")
class RNN(Recurrent):
    """h_t = tanh(W_xh x_t + b_h [+ W_static s] + W_hh (m_t h_t-1)), y_t = tanh(W_ho h_t + b_o) (Elman 1990).

    Parameters: W_xh (D, I), b_h (D), [W_static (D, S)], W_hh (D, D), W_ho (D, D), b_o (D), the last two not with
    `hidden_top: true`: then y is h. The rest is as `Recurrent` says.
    """

    cell = RNNCell
