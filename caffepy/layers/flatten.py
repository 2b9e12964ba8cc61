"""Flatten: several axes as one."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError
from caffepy.layers.reshape import Reshaping
from caffepy.net.blob import Blob
from caffepy.net.layer import register


@register("Flatten")
class Flatten(Reshaping):
    """The axes `flatten_param.axis` (1) .. `end_axis` (-1) as one: (N, C, H, W) to (N, C H W)."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.flatten_param, bottom[0].shape
        first = self.canonical_axis(p.axis, len(shape))
        last = self.canonical_axis(p.end_axis, len(shape), "end_axis")
        if last < first - 1:
            raise ConfigError(f"end_axis {p.end_axis} lies before axis {p.axis}")
        top[0].reshape((*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff.reshape(bottom[0].shape)
            bottom[0].diff_moved = True
