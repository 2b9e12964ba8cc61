"""Clip: y = min(max(x, low), high)."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def clip(xp, x, low, high):
    return xp.clip(x, low, max(low, high))  # bounds the wrong way round: low everywhere, as in Caffe


def clip_grad(xp, dy, x, y, low, high):
    return dy * ((x >= low) & (x <= high))


@register("Clip")
class Clip(Elementwise):
    """y = x limited to `clip_param.min` .. `clip_param.max`; the gradient passes at both bounds."""

    in_place = "forward"
    function, gradient = clip, clip_grad

    def arguments(self):
        return self.param.clip_param.min, self.param.clip_param.max
