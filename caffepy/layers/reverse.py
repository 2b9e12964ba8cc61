"""Reverse: y_t = x of the step as far from the other end."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError
from caffepy.layers import padding
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("Reverse")
class Reverse(Layer):
    """y_t = x_T-1-t along `reverse_param.axis` (0), x of any shape; with lengths (N,) y_t = x_len-1-t, padding stays.

    With lengths x is (T, N, ...), or (N, T, ...) with axis 1, and the padding is at the end.
    """

    num_bottom = (1, 2)
    in_place = "refused"

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        self.axis = self.canonical_axis(self.param.reverse_param.axis, len(shape))
        if len(bottom) > 1:
            if self.axis > 1 or len(shape) < 2:
                raise ConfigError(
                    f"with lengths {self.bottom_name(0)} must have time on axis 0 or 1 and items on the other, it is "
                    f"{shape}, reversed along axis {self.axis}"
                )
            padding.check_shape(self, 1, bottom[1], (shape[0], shape[1]), self.axis)
        top[0].reshape(shape)

    def divisible(self) -> bool:
        return self.axis > 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._turn(bottom, bottom[0].data, top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            self._turn(bottom, top[0].diff, bottom[0].diff)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def _turn(self, bottom: list[Blob], x: Array, y: Array) -> None:
        if len(bottom) == 1:
            y[...] = self.xp.flip(x, axis=self.axis)
            return
        xp, shape = self.xp, bottom[0].shape
        steps, items = shape[self.axis], shape[1 - self.axis]
        there = padding.present(self, 1, bottom[1], steps, self.axis)
        step = xp.broadcast_to(xp.reshape(xp.arange(steps), (1, -1)), there.shape)
        length = xp.sum(xp.astype(there, xp.int64), axis=1, keepdims=True)
        step = xp.where(step < length, length - 1 - step, step)
        item = xp.reshape(xp.arange(items), (-1, 1))
        rows = xp.permute_dims(step * items + item, (1, 0)) if self.axis == 0 else item * steps + step
        flat = (shape[0] * shape[1], prod(shape[2:]))
        with self.written_as(y, flat) as out:
            self.engine.gather(x.reshape(flat), xp.reshape(rows, (-1,)), out)
