"""ReLU6: y = min(max(x, 0), 6)."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def relu6(xp, x):
    return xp.clip(x, 0, 6)


def relu6_grad(xp, dy, x, y):
    return dy * ((y > 0) & (y < 6))


@register("ReLU6")
class ReLU6(Elementwise):
    """y = min(max(x, 0), 6), without gradient at both bounds (MobileNetV2). Any shape; may run in place."""

    function, gradient = relu6, relu6_grad
