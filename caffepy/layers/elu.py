"""ELU: y = x where x > 0, alpha (exp(x) - 1) elsewhere."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def elu(xp, x, alpha):
    return xp.maximum(x, 0) + alpha * (xp.exp(xp.minimum(x, 0)) - 1)


def elu_grad(xp, dy, x, y, alpha):
    return dy * ((x > 0) + (alpha + y) * (x <= 0))


@register("ELU")
class ELU(Elementwise):
    """Exponential linear unit with `elu_param.alpha` (Clevert et al. 2015). May run in place (alpha > 0)."""

    function, gradient = elu, elu_grad

    def arguments(self):
        return (self.param.elu_param.alpha,)
