"""Bucketize: numbers to the index of the range that they lie in."""

from __future__ import annotations

from itertools import pairwise

from caffepy.errors import ConfigError
from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def bucketize(xp, x, boundaries):
    # A pass for each boundary: few are given, and both engines have it.
    return sum(xp.astype(x >= boundary, x.dtype) for boundary in boundaries)


@register("Bucketize")
class Bucketize(Elementwise):
    """y = number of `bucketize_param.boundary` that are not above x: 0 .. B for B boundaries, 0 for NaN.

    Any shape. The indices are for Embed, with an input_dim of B + 1. No gradient.
    """

    function = staticmethod(bucketize)

    def arguments(self):
        boundaries = list(self.param.bucketize_param.boundary)
        if not boundaries or any(a >= b for a, b in pairwise(boundaries)):
            raise ConfigError(f"bucketize_param.boundary must ascend, at least one, got {boundaries}")
        return (boundaries,)
