"""MVN: y = (x - mean) / (deviation + eps), item by item."""

from __future__ import annotations

from math import prod

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("MVN")
class MVN(Layer):
    """Mean-variance normalization of each item and channel, or of each item (`mvn_param.across_channels`).

    y = (x - mean) / (sqrt(variance) + eps), the variance uncorrected; `normalize_variance: false` leaves x - mean.
    x has up to four axes, y always (N, C, H, W). eps counts as part of the deviation in the gradient, as in Caffe.
    """

    pixelwise = True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) > 4:
            raise ShapeError(f"MVN takes up to four axes, {self.bottom_name(0)} is {shape}")
        top[0].reshape(shape + (1,) * (4 - len(shape)))
        self.axes = (1, 2, 3) if self.param.mvn_param.across_channels else (2, 3)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p = self.xp, self.param.mvn_param
        x = bottom[0].data.reshape(top[0].shape)
        centred = x - self._mean(x)
        if p.normalize_variance:
            self.deviation = xp.sqrt(self._mean(centred * centred)) + p.eps
            centred = centred / self.deviation
        top[0].data[...] = centred

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        dy, y = top[0].diff, top[0].data
        dx = dy - self._mean(dy)
        if self.param.mvn_param.normalize_variance:
            dx = (dx - y * self._mean(dy * y)) / self.deviation
        bottom[0].diff[...] = dx.reshape(bottom[0].shape)

    def _mean(self, x: Array) -> Array:
        return self.xp.sum(x, axis=self.axes, keepdims=True) / max(1, prod(x.shape[a] for a in self.axes))
