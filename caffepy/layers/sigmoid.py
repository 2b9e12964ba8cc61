"""Sigmoid: y = 1 / (1 + exp(-x))."""

from __future__ import annotations

from caffepy.layer import register
from caffepy.layers.elementwise import Elementwise


def sigmoid(xp, x):
    # Stable for all x: neither exponential overflows.
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1.0, e) / (1 + e)


def sigmoid_grad(xp, dy, x, y):
    return dy * (y * (1 - y))


@register("Sigmoid")
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x)). May run in place."""

    function, gradient = sigmoid, sigmoid_grad
