"""Softmax: y = exp(x - max) / sum exp(x - max)."""

from __future__ import annotations

from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


def softmax(xp, x: Array, axis: int) -> Array:
    """Stable for any finite x: the maximum is subtracted."""
    if 0 in x.shape:  # nothing has no maximum
        return xp.exp(x)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def softmax_grad(xp, dy: Array, y: Array, axis: int) -> Array:
    return y * (dy - xp.sum(dy * y, axis=axis, keepdims=True))


@register("Softmax")
class Softmax(Layer):
    """y = exp(x) / sum of exp(x) over `softmax_param.axis` (1). Any shape; may run in place."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = self.canonical_axis(self.param.softmax_param.axis, len(bottom[0].shape))
        top[0].reshape_like(bottom[0])

    def divisible(self) -> bool:
        return self.axis > 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = softmax(self.xp, bottom[0].data, self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff[...] = softmax_grad(self.xp, top[0].diff, top[0].data, self.axis)
