"""Mish: y = x tanh(log(1 + e^x))."""

from __future__ import annotations

from caffepy.layers.elementwise import OfInput
from caffepy.layers.sigmoid import sigmoid
from caffepy.net.layer import register


def tanh_of_softplus(xp, x):
    # log(1 + e^x) without overflow: the exponential is at most 1.
    return xp.tanh(xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))))


def mish(xp, x):
    return x * tanh_of_softplus(xp, x)


def mish_grad(xp, dy, x, y):
    t = tanh_of_softplus(xp, x)
    return dy * (t + x * (1 - t * t) * sigmoid(xp, x))


@register("Mish")
class Mish(OfInput):
    """y = x tanh(log(1 + e^x)) (Misra 2019). Any shape; may run in place."""

    function, gradient = mish, mish_grad
