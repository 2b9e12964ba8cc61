"""GELU: y = x times the probability that a normal variable is below x."""

from __future__ import annotations

from math import pi, sqrt

from caffepy.layers.elementwise import OfInput
from caffepy.net.layer import register


def gelu(xp, x, approximate):
    if approximate:
        return 0.5 * x * (1 + _inner(xp, x))
    return x * distribution(xp, x)


def gelu_grad(xp, dy, x, y, approximate):
    if approximate:
        t = _inner(xp, x)
        slope = sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x)
        return 0.5 * dy * (1 + t + x * (1 - t * t) * slope)
    return dy * (distribution(xp, x) + x * xp.exp(-0.5 * x * x) / sqrt(2 * pi))


def _inner(xp, x):
    return xp.tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x))


def distribution(xp, x):
    """P(X <= x) of the normal distribution, to 1e-7 (Abramowitz and Stegun 7.1.26): array namespaces have no erf."""
    t = 1 / (1 + 0.3275911 / sqrt(2) * xp.abs(x))
    polynomial = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    tail = 0.5 * polynomial * xp.exp(-0.5 * x * x)
    return xp.where(x > 0, 1 - tail, tail)


@register("GELU")
class GELU(OfInput):
    """y = x P(X <= x), X normal (Hendrycks and Gimpel 2016), by default its approximation with tanh.

    `gelu_param.enable_bert_version` true (default): 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as MyCaffe and
    BERT have it; false: the exact form. Any shape; may run in place.
    """

    function, gradient = gelu, gelu_grad

    def arguments(self):
        return (self.param.gelu_param.enable_bert_version,)
