"""ReLU: y = x where x > 0, slope * x elsewhere."""

from __future__ import annotations

from caffepy.layers.elementwise import Elementwise
from caffepy.net.blob import Blob
from caffepy.net.layer import register


def relu(xp, x, slope):
    return xp.where(x > 0, x, slope * x)


def relu_grad(xp, dy, x, y, slope):
    # In place, x already holds y; for slope >= 0 its sign is x's.
    return xp.where(x > 0, dy, slope * dy)


@register("ReLU")
class ReLU(Elementwise):
    """y = max(x, 0) + slope * min(x, 0) with `relu_param.negative_slope`. May run in place (slope >= 0)."""

    function, gradient = relu, relu_grad

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        if not self.args[0]:
            self.comes_after = "relu"

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.args[0]:
            super().forward(bottom, top)
        else:
            self.engine.relu(bottom[0].data, top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.args[0]:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            self.engine.relu_grad(top[0].diff, bottom[0].data, bottom[0].diff)

    def arguments(self):
        return (self.param.relu_param.negative_slope,)
