"""HardSigmoid: y = min(max(alpha x + beta, 0), 1)."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.layer import register


def hard_sigmoid(xp, x, alpha, beta):
    return xp.clip(alpha * x + beta, 0, 1)


def hard_sigmoid_grad(xp, dy, x, y, alpha, beta):
    return alpha * dy * ((y > 0) & (y < 1))


@register("HardSigmoid")
class HardSigmoid(Elementwise):
    """y = min(max(alpha x + beta, 0), 1) with `hard_sigmoid_param.alpha` (0.2) and `beta` (0.5), ONNX's defaults.

    MobileNetV3 means alpha 1/6. Any shape; may run in place.
    """

    function, gradient = hard_sigmoid, hard_sigmoid_grad

    def arguments(self):
        return self.param.hard_sigmoid_param.alpha, self.param.hard_sigmoid_param.beta
