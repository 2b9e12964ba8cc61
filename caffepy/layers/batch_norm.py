"""BatchNorm: y = (x - mean) / sqrt(variance + eps)."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.scaled_batch_norm import ScaledBatchNorm, asked_for
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TEST, LayerParameter


def normalize(xp, x, mean, inverse):
    return (x - mean) * inverse


def normalize_grad(xp, dy, y, mean_dy, mean_dy_y, inverse):
    return (dy - mean_dy - y * mean_dy_y) * inverse


def copy(xp, x):
    return x


def times(xp, x, factor):
    return x * factor


@register("BatchNorm")
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps) a channel, x (N, C, ...) (Ioffe and Szegedy 2015); no scale, no shift.

    TRAIN: mean and (uncorrected) variance of the batch; TEST: the stored ones; `batch_norm_param.use_global_stats`
    decides otherwise. Parameters: sums of means and variances and their factor, all moved by
    s = `moving_average_fraction` * s + batch value whenever batch statistics are used, the variance corrected by
    m / (m - 1). They take no gradient: their lr_mult must be 0. May run in place.
    """

    pixelwise = True

    @classmethod
    def form(cls, param: LayerParameter) -> type[Layer]:
        return ScaledBatchNorm if asked_for(param.batch_norm_param) else cls

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"BatchNorm needs at least two axes (N, C), {self.bottom_name(0)} is {shape}")
        p = self.param.batch_norm_param
        self.stored = p.use_global_stats if p.HasField("use_global_stats") else self.phase == TEST
        self.channels = shape[1]
        for blob_shape in ((self.channels,), (self.channels,), (1,)):
            self.add_blob(blob_shape)
        for spec in self.param.param:
            if spec.HasField("lr_mult") and spec.lr_mult != 0:
                raise ConfigError(
                    f"the statistics of BatchNorm are not trained, but lr_mult is {spec.lr_mult:g}",
                    hint="Remove the param { } blocks, or set lr_mult: 0.",
                )
        while len(self.param.param) < 3:
            self.param.param.add()
        for spec in self.param.param:
            spec.lr_mult = 0
        self.y = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[1] != self.channels:
            raise ShapeError(
                f"{self.bottom_name(0)} is {bottom[0].shape}, the statistics are for {self.channels} channels"
            )
        top[0].reshape_like(bottom[0])
        if top[0] is bottom[0]:
            self.y.reshape_like(bottom[0])
        self.broadcast = (1, self.channels, *[1] * (len(bottom[0].shape) - 2))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p, x = self.xp, self.param.batch_norm_param, bottom[0].data
        if self.stored:
            factor = self.blobs[2].data[0]
            scale = xp.where(factor == 0, 0.0 * factor, 1 / xp.where(factor == 0, 1.0 + factor, factor))
            mean, variance = self.blobs[0].data * scale, self.blobs[1].data * scale
        else:
            mean, variance = self.engine.channel_moments(x)
            m = self._values_per_channel(bottom)
            correction = m / (m - 1) if m > 1 else 1.0
            for blob, value in zip(self.blobs, (mean, variance * correction, 1.0)):
                blob.data[...] = p.moving_average_fraction * blob.data + value
        self.inverse = 1 / xp.sqrt(variance + p.eps)
        self.engine.map(normalize, x, self._spread(mean), self._spread(self.inverse), out=top[0].data)
        if top[0] is bottom[0]:
            self.engine.map(copy, top[0].data, out=self.y.data)

    def affine(self) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.stored:
            return None
        mean, variance, count = (blob.host().astype(np.float64) for blob in self.blobs)
        scale = 1 / count[0] if count[0] else 0.0
        factor = 1 / np.sqrt(variance * scale + self.param.batch_norm_param.eps)
        return factor, -mean * scale * factor

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        dy = top[0].diff
        if self.stored:
            self.engine.map(times, dy, self._spread(self.inverse), out=bottom[0].diff)
            return
        y = self.y.data if top[0] is bottom[0] else top[0].data
        m = self._values_per_channel(bottom)
        sums = [self.engine.zeros(self.channels) for _ in range(2)]
        self.engine.add_sum_over_channels(dy, sums[0])
        self.engine.add_sum_over_channels(dy, sums[1], times=y)
        means = [self._spread(s / m) for s in sums]
        self.engine.map(normalize_grad, dy, y, *means, self._spread(self.inverse), out=bottom[0].diff)

    def _values_per_channel(self, bottom: list[Blob]) -> int:
        return max(1, bottom[0].count // max(1, self.channels))

    def _spread(self, values: Array) -> Array:
        return values.reshape(self.broadcast)
