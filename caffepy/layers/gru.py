"""GRU: h = (1 - z) n + z h', gated memory with one state."""

from __future__ import annotations

from caffepy.engine import Engine
from caffepy.layers.cell import Cell
from caffepy.layers.recurrent import Recurrent
from caffepy.net.blob import Array
from caffepy.net.layer import Layer, register


class GRUCell(Cell):
    """The gradients of the sums lie side by side, n, r, z, u: from n on those of the inputs, from r on those of h."""

    gates = 3
    halved = 2
    keeps_h = True
    state_names = ("h",)

    def __init__(self, layer: Layer, depth: int, static_depth: int, reverse: bool):
        super().__init__(layer, depth, static_depth, reverse)
        layer.add_blob((self.rows,), layer.param.recurrent_param.bias_filler)

    def allocate(self, steps: int, items: int) -> None:
        self.d = self.new(steps, items, 4 * self.size)
        self.u = self.new(items, self.rows)
        self.u_n = self.new(steps, items, self.size)
        """What h adds to the candidate's sum, where r multiplies it."""
        self.turned = self.new(self.rows, self.depth)
        """W_x in the order n, r, z."""

    def input_bias(self) -> Array:
        """b_ih, and of b_hh what r does not multiply."""
        bias, both = self.engine.copy(self.parameter(1)), slice(2 * self.size)
        bias[both] += self.parameter(self.further)[both]
        return bias

    def step(self, engine: Engine, t: int, at: slice, h: Array) -> None:
        u, candidate = self.u[at, ...], slice(2 * self.size, None)
        engine.gemm(h, self.weights, u)
        u[:, candidate] += self.parameter(self.further)[candidate]
        self.u_n[t, at, ...] = u[:, candidate]
        engine.gru(self.z[t, at, ...], u, h, self.states[0][self.after(t), at, ...])

    def step_gradient(self, engine: Engine, t: int, at: slice, carry: list[Array]) -> None:
        h = self.previous()[t, at, ...]
        engine.gru_grad(carry[0], self.z[t, at, ...], self.u_n[t, at, ...], h, self.d[t, at, ...])

    def recurrent_sums(self) -> Array:
        return self.d[..., self.size :]

    def parameter_gradients(self) -> None:
        d, size = self.flat(self.d), self.size
        gates, candidate = d[:, size : 3 * size], d[:, :size]
        self.add_product(0, gates, self.given.x, slice(2 * size))
        self.add_product(0, candidate, self.given.x, slice(2 * size, None))
        self.add_product(self.recurrent_weight, d[:, size:], self.flat(self.previous()))
        sums = self.engine.zeros(4 * size)
        self.engine.add_sum_over_channels(d, sums)
        if self.learns(1):
            self.gradient(1)[...] += self._in_order(sums)
        if self.learns(self.further):
            self.gradient(self.further)[...] += sums[size:]
        if self.given.static is not None:
            self.add_product(2, self.static_sums(), self.given.static)

    def input_gradient(self, dx: Array, add: bool) -> None:
        weights, size = self.parameter(0), self.size
        self.turned[:size, :] = weights[2 * size :, :]
        self.turned[size:, :] = weights[: 2 * size, :]
        self.engine.gemm(self.flat(self.d)[:, : 3 * size], self.turned, dx, accumulate=add)

    def static_sums(self) -> Array:
        return self._in_order(self.xp.sum(self.d, axis=0))

    def _in_order(self, d: Array) -> Array:
        """The inputs' sums on the last axis, r, z, n, of those of `d`."""
        size = self.size
        return self.xp.concat((d[..., size : 3 * size], d[..., :size]), axis=-1)


@register("GRU")
class GRU(Recurrent):
    """h_t = (1 - z) n + z (m_t h_t-1) (Cho et al. 2014, the reset gate behind the product as in cuDNN and PyTorch).

    r, z = sigmoid of their third of W_ih x_t + b_ih [+ W_static s] + W_hh (m_t h_t-1) + b_hh, n = tanh(W_in x_t + b_in
    [+ ...] + r (W_hn (m_t h_t-1) + b_hn)).
    Parameters: W_ih (3 D, I), b_ih (3 D), [W_static (3 D, S)], W_hh (3 D, D), b_hh (3 D), in the order r, z, n. One
    state, h. The rest is as `Recurrent` says.
    """

    cell = GRUCell
    param_field = "recurrent_param"
