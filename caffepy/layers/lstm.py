"""LSTM and LSTMUnit: gated memory over sequences, and its single step."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.recurrent import Recurrent, sigmoid
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


def lstm_step(xp, i, f, o, g, c_prev, marker):
    """The gates' activations, the memory c, tanh(c) and the output h."""
    i, f, o, g = sigmoid(xp, i), sigmoid(xp, f) * marker, sigmoid(xp, o), xp.tanh(g)
    c = f * c_prev + i * g
    s = xp.tanh(c)
    return i, f, o, g, c, s, o * s


def lstm_step_grad(xp, dh, dc, i, f, o, g, c_prev, s):
    """Gradients of the four sums and of c_prev. As in Caffe f holds the marker, also in the factor 1 - f."""
    dc = dc + dh * o * (1 - s * s)
    return dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dh * s * o * (1 - o), dc * i * (1 - g * g), dc * f


def quarters(z: Array) -> tuple[Array, ...]:
    """Views of (N, 4 D): input, forget and output gate, candidate."""
    size = z.shape[-1] // 4
    return tuple(z[..., k * size : (k + 1) * size] for k in range(4))


@register("LSTM")
class LSTM(Recurrent):
    """c_t = f m_t c_t-1 + i g, h_t = o tanh(c_t) (Hochreiter and Schmidhuber 1997, Donahue et al. 2015).

    i, f, o = sigmoid and g = tanh of their quarter of W_x x_t + b [+ W_static s] + W_h (m_t h_t-1).
    Parameters: W_x (4 D, I), b (4 D), [W_static (4 D, S)], W_h (4 D, D). States: h, then c. The rest is as
    `Recurrent` says. For fractional markers the gradient of the forget gate is f m (1 - f m), as in Caffe.
    """

    gates = 4
    state_names = ("h", "c")

    def allocate(self, steps: int, items: int) -> None:
        self.squashed = self.new(steps, items, self.size)
        self.dc = self.new(items, self.size)

    def step(self, t: int, marker: Array) -> None:
        gates = quarters(self.z[t, ...])
        h, c = self.states
        out = (*gates, c[t + 1, ...], self.squashed[t, ...], h[t + 1, ...])
        self.engine.map(lstm_step, *gates, c[t, ...], marker, out=out)

    def start_backward(self) -> None:
        self.dc[...] = 0

    def step_gradient(self, t: int, dh: Array) -> None:
        gates, c_prev = quarters(self.z[t, ...]), self.states[1][t, ...]
        out = (*quarters(self.dz[t, ...]), self.dc)
        self.engine.map(lstm_step_grad, dh, self.dc, *gates, c_prev, self.squashed[t, ...], out=out)


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of LSTM: c = f m c_prev + i g, h = o tanh(c), from sums that are already made.

    Bottoms c_prev (1, N, D), sums (1, N, 4 D) in the order input, forget, output gate, candidate, and markers
    (1, N); tops c and h (1, N, D). Markers get no gradient.
    """

    in_place = "forward"
    num_bottom = 3
    num_top = 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 3 or shape[0] != 1:
            raise ShapeError(f"the memory {self.bottom_name(0)} must be (1, N, D), it is {shape}")
        for i, what, expected in ((1, "sums", (*shape[:2], 4 * shape[2])), (2, "markers", shape[:2])):
            if bottom[i].shape != expected:
                raise ShapeError(
                    f"the {what} {self.bottom_name(i)} must be {expected} to fit {self.bottom_name(0)} "
                    f"{shape}, they are {bottom[i].shape}"
                )
        for blob in top:
            blob.reshape_like(bottom[0])
        # The gates and tanh(c), for backward.
        self.saved = [self.engine.zeros(bottom[0].count).reshape(shape[1:]) for _ in range(5)]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        c_prev = bottom[0].data[0, ...]
        marker = self.xp.broadcast_to(bottom[2].data.reshape((-1, 1)), c_prev.shape)
        *gates, squashed = self.saved
        out = (*gates, top[0].data[0, ...], squashed, top[1].data[0, ...])
        self.engine.map(lstm_step, *quarters(bottom[1].data[0, ...]), c_prev, marker, out=out)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[2]:
            raise ConfigError(
                f"LSTMUnit has no gradient for its markers {self.bottom_name(2)}",
                hint="Set propagate_down: false for this bottom.",
            )
        if not any(propagate_down):
            return
        *gates, squashed = self.saved
        dc, dh = (blob.diff[0, ...] for blob in top)
        out = (*quarters(bottom[1].diff[0, ...]), bottom[0].diff[0, ...])
        self.engine.map(lstm_step_grad, dh, dc, *gates, bottom[0].data[0, ...], squashed, out=out)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2
