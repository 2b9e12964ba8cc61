"""LSTM whose gates see the memory, and LSTM whose sums are normalized: cells of LSTM."""

from __future__ import annotations

from caffepy.engine import Engine
from caffepy.layers.lstm_cell import LSTMCell
from caffepy.net.blob import Array
from caffepy.net.layer import Layer
from caffepy.proto.caffe_pb2 import FillerParameter

EPS = 1e-5
"""Added to variances."""


def sigmoid(xp, x):
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def peep(xp, i, f, o, g, c_prev, kept, p_i, p_f, p_o):
    seen = c_prev if kept is None else c_prev * kept
    i, f, g = sigmoid(xp, i + p_i * seen), sigmoid(xp, f + p_f * seen), xp.tanh(g)
    c = f * seen + i * g
    o, squashed = sigmoid(xp, o + p_o * c), xp.tanh(c)
    return i, f, o, g, c, squashed, o * squashed


def peep_grad(xp, dh, dc, i, f, o, g, c_prev, kept, squashed, p_i, p_f, p_o):
    seen = c_prev if kept is None else c_prev * kept
    do = dh * squashed * o * (1 - o)
    dc = dc + dh * o * (1 - squashed * squashed) + do * p_o
    di, df = dc * g * i * (1 - i), dc * seen * f * (1 - f)
    before = dc * f + di * p_i + df * p_f
    return di, df, do, dc * i * (1 - g * g), before if kept is None else before * kept


class PeepholeCell(LSTMCell):
    """i and f see p c_t-1, o sees p c_t (Gers and Schmidhuber 2000). Behind W_h: p (3, D), of i, f, o."""

    halved = 0

    def __init__(self, layer: Layer, depth: int, static_depth: int, reverse: bool):
        super().__init__(layer, depth, static_depth, reverse)
        layer.add_blob((3, self.size), layer.param.recurrent_param.weight_filler)

    def step(self, engine: Engine, t: int, at: slice, h: Array) -> None:
        z, (hidden, memory), after = self.z[t, at, ...], self.states, self.after(t)
        engine.gemm(h, self.weights, z, accumulate=True)
        out = (*self._gates(z), memory[after, at, ...], self.squashed[t, at, ...], hidden[after, at, ...])
        engine.map(
            peep, *self._gates(z), memory[self.before(t), at, ...], self._kept(t, at), *self._peepholes(), out=out
        )

    def step_gradient(self, engine: Engine, t: int, at: slice, carry: list[Array]) -> None:
        z, c = self._gates(self.z[t, at, ...]), self.states[1][self.before(t), at, ...]
        out = (*self._gates(self.dz[t, at, ...]), carry[1])
        given = (*z, c, self._kept(t, at), self.squashed[t, at, ...], *self._peepholes())
        engine.map(peep_grad, *carry, *given, out=out)

    def parameter_gradients(self) -> None:
        super().parameter_gradients()
        if not self.learns(self.further):
            return
        memory, last = self.states[1], self.steps
        after, before = memory[1:, ...], memory[:last, ...]
        if self.reverse:
            after, before = before, after
        seen = before if self.given.kept is None else before * self.given.kept
        for i, (d, c) in enumerate(zip(self._gates(self.dz), (seen, seen, after))):
            self.engine.add_sum_over_channels(self.flat(d), self.gradient(self.further)[i, :], times=self.flat(c))

    def _gates(self, z: Array) -> list[Array]:
        return [z[..., k * self.size : (k + 1) * self.size] for k in range(4)]

    def _kept(self, t: int, at: slice) -> Array | None:
        return None if self.given.kept is None else self.given.kept[t, at, ...]

    def _peepholes(self) -> list[Array]:
        p = self.parameter(self.further)
        return [p[k, :] for k in range(3)]


def normalize(xp, x):
    """(x - mean) / sqrt(variance + eps) over the last axis, and 1 / sqrt(...)."""
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    inverse = 1 / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + EPS)
    return centred * inverse, inverse


def normalize_grad(xp, dn, n, inverse):
    return (dn - xp.mean(dn, axis=-1, keepdims=True) - n * xp.mean(dn * n, axis=-1, keepdims=True)) * inverse


class NormalizedCell(PeepholeCell):
    """The products and the memory are normalized step by step, each over all its values (Ba et al. 2016).

    z = a_x norm(W_x x + W_static s) + a_h norm(W_h h) + b, h = o tanh(a_c norm(c) + b_c). Behind W_h: a_x (4 D), a_h
    (4 D), a_c (D), b_c (D).
    """

    def __init__(self, layer: Layer, depth: int, static_depth: int, reverse: bool):
        LSTMCell.__init__(self, layer, depth, static_depth, reverse)
        for length, value in ((self.rows, 1), (self.rows, 1), (self.size, 1), (self.size, 0)):
            layer.add_blob((length,), FillerParameter(value=value))

    def allocate(self, steps: int, items: int) -> None:
        super().allocate(steps, items)
        self.of_x, self.of_h, self.du, self.dsums = (self.new(steps, items, self.rows) for _ in range(4))
        self.of_c, self.dn = (self.new(steps, items, self.size) for _ in range(2))
        self.inverse_x, self.inverse_h, self.inverse_c = (self.new(steps, items, 1) for _ in range(3))

    def project(self) -> None:
        self.z[...] = 0
        super().project()
        self.z -= self.parameter(1)
        self.of_x[...], self.inverse_x[...] = normalize(self.xp, self.z)
        self.z[...] = self.of_x * self.parameter(self.further) + self.parameter(1)

    def step(self, engine: Engine, t: int, at: slice, h: Array) -> None:
        xp, z, (hidden, memory) = engine.xp, self.z[t, at, ...], self.states
        of_h = self.of_h[t, at, ...]
        engine.gemm(h, self.weights, of_h)
        of_h[...], self.inverse_h[t, at, ...] = normalize(xp, of_h)
        z += of_h * self.parameter(self.further + 1)
        i, f, o, g = self._gates(z)
        for gate in (i, f, o):
            gate[...] = sigmoid(xp, gate)
        g[...] = xp.tanh(g)
        if self.given.kept is not None:
            f *= self.given.kept[t, at, ...]
        c = f * memory[self.before(t), at, ...] + i * g
        of_c, self.inverse_c[t, at, ...] = normalize(xp, c)
        squashed = xp.tanh(of_c * self.parameter(self.further + 2) + self.parameter(self.further + 3))
        memory[self.after(t), at, ...], self.of_c[t, at, ...], self.squashed[t, at, ...] = c, of_c, squashed
        hidden[self.after(t), at, ...] = o * squashed

    def step_gradient(self, engine: Engine, t: int, at: slice, carry: list[Array]) -> None:
        xp, (dh, dc) = engine.xp, carry
        i, f, o, g = self._gates(self.z[t, at, ...])
        di, df, do, dg = self._gates(self.dz[t, at, ...])
        squashed, of_c, c_prev = (self.squashed[t, at, ...], self.of_c[t, at, ...],
                                  self.states[1][self.before(t), at, ...])  # fmt: skip
        do[...] = dh * squashed * o * (1 - o)
        dn = dh * o * (1 - squashed * squashed)
        self.dn[t, at, ...] = dn
        dc += normalize_grad(xp, dn * self.parameter(self.further + 2), of_c, self.inverse_c[t, at, ...])
        di[...], df[...], dg[...] = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g * g)
        dc *= f
        dz, a_h = self.dz[t, at, ...], self.parameter(self.further + 1)
        self.du[t, at, ...] = normalize_grad(xp, dz * a_h, self.of_h[t, at, ...], self.inverse_h[t, at, ...])

    def recurrent_sums(self) -> Array:
        return self.du

    def parameter_gradients(self) -> None:
        dz, dn = self.flat(self.dz), self.flat(self.dn)
        self.dsums[...] = normalize_grad(self.xp, self.dz * self.parameter(self.further), self.of_x, self.inverse_x)
        self.add_product(0, self.flat(self.dsums), self.given.x)
        self.add_product(self.recurrent_weight, self.flat(self.du), self.flat(self.previous()))
        if self.given.static is not None:
            self.add_product(2, self.static_sums(), self.given.static)
        summed = ((1, dz, None), (self.further, dz, self.of_x), (self.further + 1, dz, self.of_h))
        for i, d, times in (*summed, (self.further + 2, dn, self.of_c), (self.further + 3, dn, None)):
            if self.learns(i):
                self.engine.add_sum_over_channels(d, self.gradient(i), None if times is None else self.flat(times))

    def input_gradient(self, dx: Array, add: bool) -> None:
        self.engine.gemm(self.flat(self.dsums), self.parameter(0), dx, accumulate=add)

    def static_sums(self) -> Array:
        return self.xp.sum(self.dsums, axis=0)
