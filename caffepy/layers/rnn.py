"""RNN: h = tanh(W_xh x + b_h + W_hh h'), y = tanh(W_ho h + b_o)."""

from __future__ import annotations

from caffepy.layers.recurrent import Recurrent
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import register


def tanh_of_sum(xp, x, bias):
    return xp.tanh(x + bias)


def tanh(xp, x):
    return xp.tanh(x)


def tanh_grad(xp, dy, y):
    return dy * (1 - y * y)


@register("RNN")
class RNN(Recurrent):
    """h_t = tanh(W_xh x_t + b_h [+ W_static s] + W_hh (m_t h_t-1)), y_t = tanh(W_ho h_t + b_o) (Elman 1990).

    Parameters: W_xh (D, I), b_h (D), [W_static (D, S)], W_hh (D, D), W_ho (D, D), b_o (D). The rest is as
    `Recurrent` says.
    """

    gates = 1
    state_names = ("h",)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.recurrent_param
        self.output_weight = len(self.blobs)
        self.add_blob((self.size, self.size), p.weight_filler)
        self.add_blob((self.size,), p.bias_filler)

    def allocate(self, steps: int, items: int) -> None:
        self.y, self.dy, self.dh = (self.new(steps * items, self.size) for _ in range(3))

    def step(self, t: int, marker: Array) -> None:
        self.engine.map(tanh, self.z[t, ...], out=self.states[0][t + 1, ...])

    def output(self, y: Array) -> None:
        self.engine.gemm(self.rows(self.states[0][1:, ...]), self.blobs[self.output_weight].data.T, self.y)
        self.engine.map(tanh_of_sum, self.y, self.blobs[self.output_weight + 1].data, out=self.y)
        y[...] = self.y.reshape(y.shape)

    def output_gradient(self, dy: Array) -> Array:
        weight = self.output_weight
        self.engine.map(tanh_grad, self.rows(dy), self.y, out=self.dy)
        self.add_product(weight, self.dy, self.rows(self.states[0][1:, ...]))
        if self.param_propagate_down[weight + 1]:
            self.engine.add_sum_over_channels(self.dy, self.blobs[weight + 1].diff)
        self.engine.gemm(self.dy, self.blobs[weight].data, self.dh)
        return self.dh.reshape(dy.shape)

    def step_gradient(self, t: int, dh: Array) -> None:
        self.engine.map(tanh_grad, dh, self.states[0][t + 1, ...], out=self.dz[t, ...])
