"""Slice: a blob cut along an axis."""

from __future__ import annotations

from itertools import pairwise

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.along import Along
from caffepy.layers.lost_gradient import gradient_is_lost
from caffepy.net.blob import Blob
from caffepy.net.layer import register


@register("Slice")
class Slice(Along):
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
