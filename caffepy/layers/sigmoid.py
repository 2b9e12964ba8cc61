"""Sigmoid: y = 1 / (1 + exp(-x))."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def sigmoid(xp, x):
    # The exponential never overflows, and 1 - q rounds as Caffe's double: y is exactly 1 from about 17.4 up.
    # |1 - q| and |0 - q| without `where`, which takes four times as long, and without subtracting from a truth value,
    # which torch refuses.
    e = xp.exp(-xp.abs(x))
    return xp.abs((x >= 0) + e / (-1 - e))


def sigmoid_grad(xp, dy, x, y):
    return dy * (y * (1 - y))


@register("Sigmoid")
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x)). May run in place."""

    function, gradient = sigmoid, sigmoid_grad
