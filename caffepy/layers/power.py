"""Power: y = (shift + scale x) ^ power."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def power(xp, x, power, scale, shift):
    if power == 0 or scale == 0:
        return xp.full_like(x, shift) ** power  # 0^0 is 1; inf and nan where Python's own power raises
    base = scale * x + shift
    return base if power == 1 else base**power


def power_grad(xp, dy, x, y, power, scale, shift):
    if power == 0 or scale == 0:
        return xp.zeros_like(dy)
    if power == 1:
        return dy * scale
    return dy * (power * scale * (scale * x + shift) ** (power - 1))


@register("Power")
class Power(Elementwise):
    """y = (shift + scale x) ^ power with `power_param`; constant, without gradient, if power or scale is 0."""

    in_place = "forward"
    function, gradient = power, power_grad

    def arguments(self):
        p = self.param.power_param
        return p.power, p.scale, p.shift
