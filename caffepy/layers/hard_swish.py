"""HardSwish: y = x min(max(x + 3, 0), 6) / 6."""

from __future__ import annotations

from caffepy.layers.elementwise import OfInput
from caffepy.net.layer import register


def hard_swish(xp, x):
    return x * xp.clip(x / 6 + 0.5, 0, 1)


def hard_swish_grad(xp, dy, x, y):
    return dy * (xp.clip(x / 6 + 0.5, 0, 1) + x / 6 * ((x > -3) & (x < 3)))


@register("HardSwish")
class HardSwish(OfInput):
    """y = x relu6(x + 3) / 6 (MobileNetV3, Howard et al. 2019). Any shape; may run in place."""

    function, gradient = hard_swish, hard_swish_grad
