"""Concat and Slice: join blobs along an axis, cut one along an axis."""

from __future__ import annotations

from itertools import accumulate, pairwise

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.reshape import gradient_is_lost
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


class _Along(Layer):
    """The axis of both, by its new name or its old unsigned one."""

    axis: int
    bounds: list[int]

    def find_axis(self, p, old: str, ndim: int) -> int:
        if p.HasField(old):
            if p.HasField("axis"):
                raise ConfigError(f"both axis and its old name {old} are given", hint="Keep axis.")
            return self.canonical_axis(getattr(p, old), ndim, old)
        return self.canonical_axis(p.axis, ndim)

    def divisible(self) -> bool:
        return self.axis > 0 and len(self.bounds) > 2  # of one blob: see `gradient_is_lost`

    def parts(self, bounds: list[int], ndim: int):
        for first, last in pairwise(bounds):
            yield tuple(slice(first, last) if i == self.axis else slice(None) for i in range(ndim))


@register("Concat")
class Concat(_Along):
    """The bottoms behind one another along `concat_param.axis` (1); their other axes are equal."""

    num_bottom = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        self.axis = self.find_axis(self.param.concat_param, "concat_dim", len(shape))
        for i, blob in enumerate(bottom):
            if len(blob.shape) != len(shape) or any(
                a != b for j, (a, b) in enumerate(zip(blob.shape, shape)) if j != self.axis
            ):
                raise ShapeError(
                    f"{self.bottom_name(0)} {shape} and {self.bottom_name(i)} {blob.shape} must agree on all axes but "
                    f"{self.axis}, along which they are joined"
                )
        self.bounds = [0, *accumulate(blob.shape[self.axis] for blob in bottom)]
        top[0].reshape((*shape[: self.axis], self.bounds[-1], *shape[self.axis + 1 :]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        y = top[0].data
        for blob, part in zip(bottom, self.parts(self.bounds, y.ndim)):
            y[part] = blob.data

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(bottom) == 1 and gradient_is_lost(self.name, top[0]):
            return
        dy = top[0].diff
        for blob, part, wanted in zip(bottom, self.parts(self.bounds, dy.ndim), propagate_down):
            if wanted:
                blob.diff[...] = dy[part]


@register("Slice")
class Slice(_Along):
    """The bottom cut along `slice_param.axis` (1) at `slice_point`s, or evenly; the opposite of Concat."""

    num_top = (1, None)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.slice_param, bottom[0].shape
        self.axis = self.find_axis(p, "slice_dim", len(shape))
        size = shape[self.axis]
        if p.slice_point:
            points = list(p.slice_point)
            if len(points) != len(top) - 1:
                raise ConfigError(
                    f"{len(points)} slice_point(s) make {len(points) + 1} parts, but there are {len(top)} tops"
                )
            self.bounds = [0, *points, size]
            if any(a >= b for a, b in pairwise(self.bounds)):
                raise ConfigError(
                    f"slice_points {points} must increase strictly and stay inside the {size} of axis {self.axis}"
                )
        else:
            if size % len(top):
                raise ShapeError(
                    f"axis {self.axis} of {self.bottom_name(0)} {shape} does not divide evenly into {len(top)} tops",
                    hint="Say where to cut with slice_point.",
                )
            self.bounds = list(range(0, size + 1, size // len(top))) if size else [0] * (len(top) + 1)
        for blob, (first, last) in zip(top, pairwise(self.bounds)):
            blob.reshape((*shape[: self.axis], last - first, *shape[self.axis + 1 :]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].data
        for blob, part in zip(top, self.parts(self.bounds, x.ndim)):
            blob.data[...] = x[part]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0] and not (len(top) == 1 and gradient_is_lost(self.name, top[0])):
            dx = bottom[0].diff
            for blob, part in zip(top, self.parts(self.bounds, dx.ndim)):
                dx[part] = blob.diff
