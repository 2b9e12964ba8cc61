"""LSTMUnit: one step of an LSTM, as Caffe's LSTM unrolls it."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


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
        # The gates, the candidate and tanh(c), for backward.
        items, size = shape[1:]
        self.gates, self.squashed = (self.engine.zeros(k * bottom[0].count).reshape((items, k * size)) for k in (4, 1))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.gates[...] = bottom[1].data[0, ...]
        sums = self.gates[:, : 3 * self.squashed.shape[1]]
        sums *= 0.5
        c_prev, markers = bottom[0].data[0, ...], bottom[2].data.reshape((-1, 1))
        c, h = (blob.data[0, ...] for blob in top)
        self.engine.lstm(self.gates, c_prev, markers, c, self.squashed, h)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[2]:
            raise ConfigError(
                f"LSTMUnit has no gradient for its markers {self.bottom_name(2)}",
                hint="Set propagate_down: false for this bottom.",
            )
        if not any(propagate_down):
            return
        dc, dh = (blob.diff[0, ...] for blob in top)
        dc_prev = bottom[0].diff[0, ...]
        dc_prev[...] = dc
        c_prev, dz = bottom[0].data[0, ...], bottom[1].diff[0, ...]
        self.engine.lstm_grad(dh, dc_prev, self.gates, c_prev, self.squashed, dz)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2
