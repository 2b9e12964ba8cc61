"""Dice: a PReLU whose kink lies where the data does."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.sigmoid import sigmoid
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TRAIN


@register("Dice")
class Dice(Layer):
    """y = p x + (1 - p) a x, p = sigmoid((x - mean) / sqrt(variance + eps)), a learned (Zhou et al. 2018).

    x (N, C, ...). TRAIN: mean and variance of the batch; TEST: their moving means, f = `moving_average_fraction`,
    s = f s + (1 - f) batch value. Parameters: a, mean, variance (C,), one a channel, of which a alone is trained.
    """

    in_place = "forward"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) < 2:
            raise ShapeError(f"Dice needs at least two axes (N, C), {self.bottom_name(0)} is {bottom[0].shape}")
        self.channels = bottom[0].shape[1]
        self.add_blob((self.channels,), self.param.dice_param.filler)
        for value in (0, 1):
            self.add_blob((self.channels,)).data[...] = value
        while len(self.param.param) < 3:
            self.param.param.add(lr_mult=1 if not self.param.param else 0)
        if any(spec.lr_mult for spec in self.param.param[1:]):
            raise ConfigError("the moments of Dice are not trained", hint="Set lr_mult: 0 for all but the first param.")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[1] != self.channels:
            raise ShapeError(
                f"{self.bottom_name(0)} is {bottom[0].shape}, the moments are for {self.channels} channels"
            )
        top[0].reshape_like(bottom[0])
        self.broadcast = (1, self.channels, *[1] * (len(bottom[0].shape) - 2))
        self.others = tuple(i for i in range(len(bottom[0].shape)) if i != 1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, p = bottom[0].data, self.param.dice_param
        mean, variance = self.blobs[1].data, self.blobs[2].data
        if self.phase == TRAIN:
            mean, variance = self.engine.channel_moments(x)
            kept = p.moving_average_fraction
            for blob, value in zip(self.blobs[1:], (mean, variance)):
                blob.data[...] = kept * blob.data + (1 - kept) * value
        self.inverse = self._spread(1 / self.xp.sqrt(variance + p.eps))
        self.normal = (x - self._spread(mean)) * self.inverse
        self.p = sigmoid(self.xp, self.normal)
        a = self._spread(self.blobs[0].data)
        top[0].data[...] = x * (a + (1 - a) * self.p)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, x, dy, p = self.xp, bottom[0].data, top[0].diff, self.p
        a = self._spread(self.blobs[0].data)
        if self.param_propagate_down[0]:
            self.blobs[0].diff[...] += xp.sum(dy * x * (1 - p), axis=self.others)
        if propagate_down[0]:
            normal_grad = self._through_moments(dy * x * (1 - a) * p * (1 - p))
            bottom[0].diff[...] = dy * (a + (1 - a) * p) + normal_grad * self.inverse

    def _through_moments(self, d: Array) -> Array:
        """The gradient of what is normalized, less what goes through the batch's own moments."""
        if self.phase != TRAIN:
            return d
        count = max(1, prod(d.shape) // self.channels)
        mean = self._spread(self.xp.sum(d, axis=self.others)) / count
        along = self._spread(self.xp.sum(d * self.normal, axis=self.others)) / count
        return d - mean - self.normal * along

    def _spread(self, values: Array) -> Array:
        return values.reshape(self.broadcast)
