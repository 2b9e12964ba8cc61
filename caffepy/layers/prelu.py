"""PReLU: a ReLU whose negative slopes are learned."""

from __future__ import annotations

from caffepy.blob import Blob
from caffepy.errors import ShapeError
from caffepy.layer import Layer, register
from caffepy.proto.caffe_pb2 import FillerParameter


def prelu(xp, x, slope):
    return xp.where(x > 0, x, slope * x)


def prelu_grad(xp, dy, x, slope):
    return xp.where(x > 0, dy, slope * dy)


def slope_grad(xp, dy, x):
    return dy * xp.minimum(x, 0)


@register("PReLU")
class PReLU(Layer):
    """y = max(x, 0) + a min(x, 0), a learned slope a channel, or one for all (`channel_shared`), 0.25 at first.

    x (N, C, ...); He et al. 2015. May run in place: the input is kept.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) < 2:
            raise ShapeError(f"PReLU needs at least two axes, {self.bottom_name(0)} is {bottom[0].shape}")
        p = self.param.prelu_param
        filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=0.25)
        self.channels = bottom[0].shape[1]
        self.add_blob(() if p.channel_shared else (self.channels,), filler)
        self.kept = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) < 2 or bottom[0].shape[1] != self.channels:
            raise ShapeError(f"{self.bottom_name(0)} is {bottom[0].shape}, the slopes are for {self.channels} channels")
        top[0].reshape_like(bottom[0])
        if top[0] is bottom[0]:
            self.kept.reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].data
        if top[0] is bottom[0]:
            self.kept.data[...] = x
        self.engine.map(prelu, x, self._slope(len(x.shape)), out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x = self.kept.data if top[0] is bottom[0] else bottom[0].data
        dy = top[0].diff
        if self.param_propagate_down[0]:
            products = slope_grad(self.xp, dy, x)
            if self.blobs[0].shape:
                self.engine.add_sum_over_channels(products, self.blobs[0].diff)
            else:
                self.blobs[0].diff[...] += self.xp.sum(products)
        if propagate_down[0]:
            self.engine.map(prelu_grad, dy, x, self._slope(len(x.shape)), out=bottom[0].diff)

    def _slope(self, ndim: int):
        a = self.blobs[0].data
        return a.reshape((1, -1, *[1] * (ndim - 2)))
