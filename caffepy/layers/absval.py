"""AbsVal: y = |x|."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def absval(xp, x):
    return xp.abs(x)


def absval_grad(xp, dy, x, y):
    return dy * xp.sign(x)


@register("AbsVal")
class AbsVal(Elementwise):
    """y = |x|; the gradient at 0 is 0. Not in place."""

    in_place = "refused"  # as in Caffe: the sign would be lost
    function, gradient = absval, absval_grad
