"""Axpy: y = a x + b, with a factor a for each item and channel."""

from __future__ import annotations

from math import prod

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import CoordMap, Layer, register
from caffepy.proto.caffe_pb2 import LayerParameter


def axpy(xp, a, x, b):
    return a * x + b


def times(xp, a, x):
    return a * x


def copy(xp, x):
    return x


@register("Axpy")
class Axpy(Layer):
    """y = a x + b, bottoms a (N, C) or (N, C, 1, ...), x and b (N, C, ...) of one shape (SENet, Hu et al. 2018)."""

    num_bottom = 3
    in_place = "forward"

    @classmethod
    def coord_map(cls, param: LayerParameter, bottom: int = 0) -> CoordMap | None:
        return (None, 1, 0) if bottom else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        factor, x = bottom[0].shape, bottom[1].shape
        if bottom[2].shape != x:
            names = self.bottom_name(1), self.bottom_name(2)
            raise ShapeError(f"{names[0]} {x} and {names[1]} {bottom[2].shape} must have one shape")
        if len(x) < 2 or factor[:2] != x[:2] or any(n != 1 for n in factor[2:]):
            raise ShapeError(
                f"the factor {self.bottom_name(0)} must be (N, C) or (N, C, 1, ...) for {self.bottom_name(1)} {x}, "
                f"it is {factor}"
            )
        top[0].reshape(x)

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.engine.map(axpy, self._factor(bottom), bottom[1].data, bottom[2].data, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy, x = top[0].diff, bottom[1].data
        if propagate_down[0]:
            bottom[0].diff[...] = self._sum_over_positions(dy * x).reshape(bottom[0].shape)
        if propagate_down[1]:
            self.engine.map(times, self._factor(bottom), dy, out=bottom[1].diff)
        if propagate_down[2]:
            self.engine.map(copy, dy, out=bottom[2].diff)

    def _factor(self, bottom: list[Blob]) -> Array:
        """a, with an axis of one for each further axis of x."""
        return bottom[0].data.reshape((*bottom[1].shape[:2], *[1] * (len(bottom[1].shape) - 2)))

    def _sum_over_positions(self, values: Array) -> Array:
        """(N, C, ...) summed to (N, C): positions in front of channels, as images lie in memory."""
        n, c, *size = values.shape
        turned = self.xp.permute_dims(values, (0, *range(2, len(values.shape)), 1))
        return self.xp.sum(turned.reshape((n, prod(size), c)), axis=1)
