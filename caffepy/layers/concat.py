"""Concat: blobs joined along an axis."""

from __future__ import annotations

from itertools import accumulate

from caffepy.errors import ShapeError
from caffepy.layers.along import Along
from caffepy.layers.lost_gradient import gradient_is_lost
from caffepy.net.blob import Blob
from caffepy.net.layer import register


@register("Concat")
class Concat(Along):
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
