"""What layers share that normalize each channel, then scale and shift it: BN's two forms and NVIDIA's BatchNorm."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer
from caffepy.proto.caffe_pb2 import FillerParameter


def affine(xp, x, mean, factor, shift):
    return (x - mean) * factor + shift


def normalize_affine(xp, x, mean, inverse, scale, shift):
    normalized = (x - mean) * inverse
    return normalized * scale + shift, normalized


def affine_grad(xp, dy, factor):
    return dy * factor


def normalize_affine_grad(xp, dy, normalized, mean_dy, mean_dy_x, factor):
    return (dy - mean_dy - normalized * mean_dy_x) * factor


class ChannelNorm(Layer):
    """y = scale (x - mean) / sqrt(variance + eps) + shift a channel, x (N, C, ...). May run in place.

    A subclass makes its parameters and sets `stored` when it is set up, and gives the statistics to `normalize`. With
    `stored` they are constants for the gradient, those of `stored_statistics`, else those of the batch.
    """

    pixelwise = True
    places: ClassVar[tuple[int, int]] = (0, 1)
    """Of scale and shift among the parameters."""
    stored: bool
    learns = True
    """Whether scale and shift are trained where the definition lets them."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"{self.type} needs at least two axes (N, C), {self.bottom_name(0)} is {shape}")
        self.channels = shape[1]
        self.normalized = Blob((), self.engine)

    @property
    def scale(self) -> Blob:
        return self.blobs[self.places[0]]

    @property
    def shift(self) -> Blob:
        return self.blobs[self.places[1]]

    def add_filled(self, shape: tuple[int, ...], filler: FillerParameter, given: bool, value: float) -> None:
        """A parameter filled as the definition says, or with `value`."""
        self.add_blob(shape, filler if given else FillerParameter(type="constant", value=value))

    def freeze(self, *indices: int) -> None:
        """These parameters are not trained, whatever the definition says."""
        while len(self.param.param) <= max(indices, default=-1):
            self.param.param.add()
        for i in indices:
            self.param.param[i].lr_mult = self.param.param[i].decay_mult = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self.channels:
            raise ShapeError(f"{self.bottom_name(0)} is {shape}, the parameters are for {self.channels} channels")
        top[0].reshape_like(bottom[0])
        if not self.stored:
            self.normalized.reshape_like(bottom[0])
        self.broadcast = (1, self.channels, *[1] * (len(shape) - 2))

    def divisible(self) -> bool:
        return self.stored

    def stored_statistics(self) -> tuple[Array, Array]:
        """Mean and 1 / sqrt(variance + eps) (C,) of a layer whose statistics are stored."""
        raise NotImplementedError

    def affine(self) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.stored:
            return None
        values = [self.engine.to_host(array) for array in self.stored_statistics()]
        mean, inverse, scale, shift = (
            array.astype(np.float64).reshape(-1) for array in (*values, self.scale.host(), self.shift.host())
        )
        return scale * inverse, shift - scale * inverse * mean

    def batch_statistics(self, bottom: list[Blob]) -> tuple[Array, Array]:
        """Mean and (uncorrected) variance (C,) of the batch."""
        return self.engine.channel_moments(bottom[0].data)

    def normalize(self, bottom: list[Blob], top: list[Blob], mean: Array, inverse: Array) -> None:
        """The forward pass for these statistics (C,), `inverse` being 1 / sqrt(variance + eps)."""
        self.mean, self.inverse = (values.reshape(self.broadcast) for values in (mean, inverse))
        scale, shift = (blob.data.reshape(self.broadcast) for blob in (self.scale, self.shift))
        x, y = bottom[0].data, top[0].data
        if self.stored:
            self.engine.map(affine, x, self.mean, scale * self.inverse, shift, out=y)
        else:
            outputs = y, self.normalized.data
            self.engine.map(normalize_affine, x, self.mean, self.inverse, scale, shift, out=outputs)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy, count = top[0].diff, max(1, bottom[0].count // max(1, self.channels))
        factor = self.scale.data.reshape(self.broadcast) * self.inverse
        learned = [blob for blob in (self.scale, self.shift) if self._learns(blob)]
        if learned or not self.stored:
            normalized = self._normalized(bottom, top)
            sum_dy, sum_dy_x = (self.engine.zeros(self.channels) for _ in range(2))
            self.engine.add_sum_over_channels(dy, sum_dy)
            self.engine.add_sum_over_channels(dy, sum_dy_x, times=normalized)
            for blob in learned:
                blob.diff[...] += (sum_dy_x if blob is self.scale else sum_dy).reshape(blob.shape)
        if propagate_down[0] and self.stored:
            self.engine.map(affine_grad, dy, factor, out=bottom[0].diff)
        elif propagate_down[0]:
            means = [(total / count).reshape(self.broadcast) for total in (sum_dy, sum_dy_x)]
            self.engine.map(normalize_affine_grad, dy, normalized, *means, factor, out=bottom[0].diff)

    def _learns(self, parameter: Blob) -> bool:
        return self.learns and self.param_propagate_down[self.blobs.index(parameter)]

    def _normalized(self, bottom: list[Blob], top: list[Blob]) -> Array:
        """(x - mean) / sqrt(variance + eps) of the last forward pass."""
        if not self.stored:
            return self.normalized.data
        if top[0] is not bottom[0]:
            return (bottom[0].data - self.mean) * self.inverse
        scale, shift = (blob.data.reshape(self.broadcast) for blob in (self.scale, self.shift))
        return (top[0].data - shift) * self.xp.where(scale == 0, 0.0 * scale, 1 / (scale + (scale == 0)))
