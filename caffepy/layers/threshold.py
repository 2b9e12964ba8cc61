"""Threshold: y = 1 where x > threshold, 0 elsewhere."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def threshold(xp, x, limit):
    return x > limit


@register("Threshold")
class Threshold(Elementwise):
    """y = 1 if x > `threshold_param.threshold`, else 0. No gradient."""

    function = threshold

    def arguments(self):
        return (self.param.threshold_param.threshold,)
