"""What Concat and Slice share: an axis, and the parts along it."""

from __future__ import annotations

from itertools import pairwise

from caffepy.errors import ConfigError
from caffepy.net.layer import Layer


class Along(Layer):
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
