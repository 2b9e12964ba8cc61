"""BNLL: y = log(1 + exp(x))."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def bnll(xp, x):
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def bnll_grad(xp, dy, x, y):
    # Caffe's form: exp overflows beyond the bound.
    e = xp.exp(xp.minimum(x, 50))
    return dy * (e / (e + 1))


@register("BNLL")
class BNLL(Elementwise):
    """y = log(1 + exp(x)), the binomial normal log likelihood, without overflow for large x."""

    in_place = "forward"
    function, gradient = bnll, bnll_grad
