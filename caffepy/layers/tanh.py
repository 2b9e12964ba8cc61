"""TanH: y = tanh(x)."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def tanh(xp, x):
    return xp.tanh(x)


def tanh_grad(xp, dy, x, y):
    return dy * (1 - y * y)


@register("TanH")
class TanH(Elementwise):
    """y = tanh(x). May run in place."""

    function, gradient = tanh, tanh_grad
