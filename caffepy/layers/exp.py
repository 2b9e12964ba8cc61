"""Exp: y = base ^ (shift + scale x)."""

from __future__ import annotations

import math

from caffepy.errors import ConfigError
from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def exp(xp, x, outer, inner):
    return outer * xp.exp(inner * x)


def exp_grad(xp, dy, x, y, outer, inner):
    return dy * y * inner


@register("Exp")
class Exp(Elementwise):
    """y = base ^ (shift + scale x) with `exp_param`; base -1, the default, means e. May run in place."""

    function, gradient = exp, exp_grad

    def arguments(self):
        p = self.param.exp_param
        if p.base != -1 and p.base <= 0:
            raise ConfigError(f"exp_param.base must be positive, or -1 for e; got {p.base:g}")
        log_base = 1.0 if p.base == -1 else math.log(p.base)
        return math.exp(min(log_base * p.shift, 700)), log_base * p.scale  # inf in float32 long before 700
