"""Crop: a window of one blob, of the size of another."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import CoordMap, Layer, register
from caffepy.proto.caffe_pb2 import LayerParameter


@register("Crop")
class Crop(Layer):
    """From `crop_param.axis` (2) on, the first bottom cut to the second's size, starting at `offset` (0).

    One offset serves all cropped axes, or give one each. The gradient outside the window is 0; the second bottom,
    the reference, never gets one.
    """

    num_bottom = 2

    @classmethod
    def coord_map(cls, param: LayerParameter, bottom: int = 0) -> CoordMap | None:
        p = param.crop_param
        return None if bottom else (p.axis - 1, 1, -np.array(list(p.offset) or [0]))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape, target = self.param.crop_param, bottom[0].shape, bottom[1].shape
        axis = self.canonical_axis(p.axis, len(shape))
        if len(p.offset) > 1 and len(p.offset) != len(shape) - axis:
            raise ConfigError(
                f"{len(p.offset)} offsets for {len(shape) - axis} cropped axes; give one, or one for each"
            )
        if len(target) != len(shape):
            raise ShapeError(
                f"{self.bottom_name(0)} {shape} and {self.bottom_name(1)} {target} must have the same number of axes"
            )
        self.window = [slice(None)] * axis
        for i in range(axis, len(shape)):
            offset = p.offset[i - axis if len(p.offset) > 1 else 0] if p.offset else 0
            if offset + target[i] > shape[i]:
                raise ShapeError(
                    f"axis {i}: offset {offset} + size {target[i]} of {self.bottom_name(1)} reaches beyond the "
                    f"{shape[i]} of {self.bottom_name(0)}"
                )
            self.window.append(slice(offset, offset + target[i]))
        top[0].reshape((*shape[:axis], *target[axis:]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = bottom[0].data[tuple(self.window)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            dx = bottom[0].diff
            dx[...] = 0
            dx[tuple(self.window)] = top[0].diff
