"""ReLU: y = x where x > 0, slope * x elsewhere."""

from __future__ import annotations

from caffepy.layer import register
from caffepy.layers.elementwise import Elementwise


def relu(xp, x, slope):
    return xp.where(x > 0, x, slope * x) if slope else xp.maximum(x, 0)


def relu_grad(xp, dy, x, y, slope):
    # In place, x already holds y; for slope >= 0 its sign is x's.
    return xp.where(x > 0, dy, slope * dy) if slope else dy * (x > 0)


@register("ReLU")
class ReLU(Elementwise):
    """y = max(x, 0) + slope * min(x, 0) with `relu_param.negative_slope`. May run in place (slope >= 0)."""

    function, gradient = relu, relu_grad

    def arguments(self):
        return (self.param.relu_param.negative_slope,)
