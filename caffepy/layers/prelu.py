"""PReLU: a ReLU whose negative slopes are learned."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import FillerParameter


def prelu(xp, x, slope):
    return xp.maximum(x, 0) + slope * xp.minimum(x, 0)


def prelu_grad(xp, dy, x, slope):
    positive = x > 0
    return dy * (positive + slope * ~positive)  # `where` takes half as long again


@register("PReLU")
class PReLU(Layer):
    """y = max(x, 0) + a min(x, 0), a learned slope a channel, or one for all (`channel_shared`), 0.25 at first.

    x (N, C), (N, C, H) or (N, C, H, W); He et al. 2015. May run in place: the input is kept.
    """

    pixelwise = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check_axes(bottom)
        p = self.param.prelu_param
        filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=0.25)
        self.channels = bottom[0].shape[1]
        self.add_blob(() if p.channel_shared else (self.channels,), filler)
        self.kept = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check_axes(bottom)
        if self.blobs[0].shape and bottom[0].shape[1] != self.channels:
            raise ShapeError(f"{self.bottom_name(0)} is {bottom[0].shape}, the slopes are for {self.channels} channels")
        top[0].reshape_like(bottom[0])
        if top[0] is bottom[0]:
            self.kept.reshape_like(bottom[0])

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].data
        if top[0] is bottom[0]:
            self.kept.data[...] = x
        self.engine.map(prelu, x, self._slope(len(x.shape)), out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x = self.kept.data if top[0] is bottom[0] else bottom[0].data
        dy = top[0].diff
        if self.param_propagate_down[0]:
            negative = self.xp.minimum(x, 0)
            if self.blobs[0].shape:
                self.engine.add_sum_over_channels(dy, self.blobs[0].diff, times=negative)
            else:
                self.blobs[0].diff[...] += self.xp.sum(dy * negative)
        if propagate_down[0]:
            self.engine.map(prelu_grad, dy, x, self._slope(len(x.shape)), out=bottom[0].diff)

    def _check_axes(self, bottom: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"PReLU needs at least two axes, {self.bottom_name(0)} is {shape}")
        if len(shape) > 4:
            raise ShapeError(f"PReLU takes up to four axes, {self.bottom_name(0)} is {shape}")

    def _slope(self, ndim: int) -> Array:
        return self.blobs[0].data.reshape((1, self.blobs[0].count, *[1] * (ndim - 2)))
