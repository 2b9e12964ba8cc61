"""Log: y = log_base(shift + scale x)."""

from __future__ import annotations

import math

from caffepy.errors import ConfigError
from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def log(xp, x, scale, shift, factor):
    return xp.log(scale * x + shift) * factor


def log_grad(xp, dy, x, y, scale, shift, factor):
    return dy * (scale * factor / (scale * x + shift))


@register("Log")
class Log(Elementwise):
    """y = log(shift + scale x) / log(base) with `log_param`; base -1, the default, means e."""

    in_place = "forward"
    function, gradient = log, log_grad

    def arguments(self):
        p = self.param.log_param
        if p.base != -1 and (p.base <= 0 or p.base == 1):
            raise ConfigError(f"log_param.base must be positive and not 1, or -1 for e; got {p.base:g}")
        return p.scale, p.shift, 1.0 if p.base == -1 else 1 / math.log(p.base)
