"""TanH: y = tanh(x)."""

from __future__ import annotations

from caffepy.layer import register
from caffepy.layers.elementwise import Elementwise


def tanh(xp, x):
    return xp.tanh(x)


def tanh_grad(xp, dy, x, y):
    return dy * (1 - y * y)


@register("TanH")
class TanH(Elementwise):
    """y = tanh(x). May run in place."""

    function, gradient = tanh, tanh_grad
