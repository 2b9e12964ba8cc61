"""The cell of LSTM."""

from __future__ import annotations

from caffepy.engine import Engine
from caffepy.layers.cell import Summed
from caffepy.net.blob import Array
from caffepy.net.layer import Layer


class LSTMCell(Summed):
    """c_t = f m_t c_t-1 + i g, h_t = o tanh(c_t)."""

    gates = 4
    halved = 3
    state_names = ("h", "c")

    def __init__(self, layer: Layer, depth: int, static_depth: int, reverse: bool):
        super().__init__(layer, depth, static_depth, reverse)
        self.parameter(1)[self.size : 2 * self.size] += layer.param.recurrent_param.forget_bias

    def allocate(self, steps: int, items: int) -> None:
        super().allocate(steps, items)
        self.squashed = self.new(steps, items, self.size)

    def step(self, engine: Engine, t: int, at: slice, h: Array) -> None:
        z, (hidden, memory), given = self.z[t, at, ...], self.states, self.given
        engine.gemm(h, self.weights, z, accumulate=True)
        kept = None if given.kept is None else given.kept[t, at, ...]
        c, after = memory[self.before(t), at, ...], self.after(t)
        engine.lstm(z, c, kept, memory[after, at, ...], self.squashed[t, at, ...], hidden[after, at, ...])

    def step_gradient(self, engine: Engine, t: int, at: slice, carry: list[Array]) -> None:
        c = self.states[1][self.before(t), at, ...]
        engine.lstm_grad(carry[0], carry[1], self.z[t, at, ...], c, self.squashed[t, at, ...], self.dz[t, at, ...])
