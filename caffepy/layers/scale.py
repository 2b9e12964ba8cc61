"""Scale and Bias: a factor and an offset for some of the axes."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import FillerParameter


def times(xp, x, factor):
    return x * factor


def plus(xp, x, offset):
    return x + offset


def affine(xp, x, factor, offset):
    return x * factor + offset


def copy(xp, x):
    return x


class _Broadcast(Layer):
    """What both share: which axes of the bottom the parameter (or second bottom) covers."""

    pixelwise = True
    num_bottom = (1, 2)

    def param_shape(self, bottom: list[Blob], axis: int, num_axes: int, what: str) -> tuple[int, ...]:
        """The learned parameter's shape: `num_axes` axes from `axis` on, -1 to the end, 0 a scalar."""
        if num_axes < -1:
            raise ConfigError(f"{what}.num_axes must be -1 (to the end) or more, got {num_axes}")
        shape = bottom[0].shape
        if num_axes == 0:
            return ()
        start = self.canonical_axis(axis, len(shape))
        if num_axes == -1:
            return shape[start:]
        if start + num_axes > len(shape):
            raise ConfigError(
                f"{what}: axis {axis} with num_axes {num_axes} reaches beyond the {len(shape)} axes of "
                f"{self.bottom_name(0)} {shape}"
            )
        return shape[start : start + num_axes]

    def find_axes(self, bottom: list[Blob], param: Blob, axis: int, what: str) -> None:
        """Where the parameter's axes lie in the bottom; raises ShapeError if they do not fit."""
        shape, covered = bottom[0].shape, param.shape
        self.axis = self.canonical_axis(axis, len(shape)) if covered else 0
        if shape[self.axis : self.axis + len(covered)] != covered:
            raise ShapeError(f"{what} {covered} does not fit the axes from {axis} on of {self.bottom_name(0)} {shape}")
        self.param_count, self.outer = prod(covered), prod(shape[: self.axis])
        self.broadcast = (1,) * self.axis + covered + (1,) * (len(shape) - self.axis - len(covered))

    def spread(self, values: Array) -> Array:
        """The parameter's values with axes of 1, so that they broadcast over the bottom."""
        return values.reshape(self.broadcast)

    def affine(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self.axis != 1 or not self.blobs or len(self.blobs[0].shape) != 1 or len(self.param.bottom) > 1:
            return None
        return self.numbers([blob.host().astype(np.float64) for blob in self.blobs])

    def numbers(self, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The factor and the offset that these parameters are."""
        raise NotImplementedError

    def sum_to_param(self, array: Array, shape: tuple[int, ...], times: Array | None = None) -> Array:
        """The sum of an array like the bottom (times another) over the axes that the parameter does not cover."""
        if self.axis == 1 and len(shape) == 1 and array.ndim > 1:
            total = self.engine.zeros(self.param_count)
            self.engine.add_sum_over_channels(array, total, times)
            return total
        if times is not None:
            array = array * times
        others = tuple(i for i in range(array.ndim) if not self.axis <= i < self.axis + len(shape))
        return self.xp.sum(array, axis=others).reshape(shape) if others else array.reshape(shape)


@register("Bias")
class Bias(_Broadcast):
    """y = x + b, b learned or the second bottom, covering bottom axes `axis` (1) .. `axis` + its number of axes.

    `bias_param.num_axes` (1) counts for a learned b alone. May run in place.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.bias_param
        if len(bottom) == 1:
            self.add_blob(self.param_shape(bottom, p.axis, p.num_axes, "bias_param"), p.filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.find_axes(bottom, self._bias(bottom), self.param.bias_param.axis, "the bias")
        top[0].reshape_like(bottom[0])

    def numbers(self, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.ones_like(blobs[0]), blobs[0]

    def _bias(self, bottom: list[Blob]) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.engine.map(plus, bottom[0].data, self.spread(self._bias(bottom).data), out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy = top[0].diff
        bias = self._bias(bottom)
        if len(bottom) > 1 and propagate_down[1]:
            bias.diff[...] = self.sum_to_param(dy, bias.shape)
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            bias.diff[...] += self.sum_to_param(dy, bias.shape)
        if propagate_down[0] and top[0] is not bottom[0]:
            self.engine.map(copy, dy, out=bottom[0].diff)


@register("Scale")
class Scale(_Broadcast):
    """y = a x (+ b), a learned (1 at first) or the second bottom, covering bottom axes `axis` (1) .. as in Bias.

    `scale_param.bias_term` adds a learned b of a's shape. May run in place: the input is kept.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.scale_param
        if len(bottom) == 1:
            filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=1)
            self.add_blob(self.param_shape(bottom, p.axis, p.num_axes, "scale_param"), filler)
        self.bias = None
        if p.bias_term:
            self.bias = self.add_blob(self._factor(bottom).shape, p.bias_filler)
        self.kept = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        factor = self._factor(bottom)
        self.find_axes(bottom, factor, self.param.scale_param.axis, "the factor")
        if self.bias is not None and self.bias.shape != factor.shape:
            raise ShapeError(f"the factor is {factor.shape}, the bias was made for {self.bias.shape}")
        top[0].reshape_like(bottom[0])
        if top[0] is bottom[0]:
            self.kept.reshape_like(bottom[0])

    def numbers(self, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return blobs[0], blobs[1] if len(blobs) > 1 else np.zeros_like(blobs[0])

    def _factor(self, bottom: list[Blob]) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, factor = bottom[0].data, self.spread(self._factor(bottom).data)
        if top[0] is bottom[0]:
            self.engine.map(copy, x, out=self.kept.data)
        if self.bias is not None:
            self.engine.map(affine, x, factor, self.spread(self.bias.data), out=top[0].data)
        else:
            self.engine.map(times, x, factor, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy, factor = top[0].diff, self._factor(bottom)
        x = self.kept.data if top[0] is bottom[0] else bottom[0].data
        if self.bias is not None and self.param_propagate_down[-1]:
            self.bias.diff[...] += self.sum_to_param(dy, self.bias.shape)
        learned = len(bottom) == 1
        if self.param_propagate_down[0] if learned else propagate_down[1]:
            gradient = self.sum_to_param(dy, factor.shape, times=x)
            if learned and not self._overwrites(bottom[0].count):
                factor.diff[...] += gradient
            else:
                factor.diff[...] = gradient
        if propagate_down[0]:
            self.engine.map(times, dy, self.spread(factor.data), out=bottom[0].diff)

    def _overwrites(self, count: int) -> bool:
        """Whether Caffe loses the factor's old gradient: nothing to sum over, or one item and several factors."""
        return self.param_count == count or (self.param_count > 1 and self.outer == 1)
