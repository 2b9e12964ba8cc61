"""ReLU: y = x where x > 0, slope * x elsewhere."""

from __future__ import annotations

from caffepy.blob import Blob
from caffepy.layer import Layer, register


def relu(xp, x, slope):
    return xp.maximum(x, 0) if slope == 0 else xp.where(x > 0, x, slope * x)


def relu_grad(xp, dy, x, slope):
    # In place, x already holds y; for slope >= 0 its sign is x's.
    return dy * (x > 0) if slope == 0 else xp.where(x > 0, dy, slope * dy)


@register("ReLU")
class ReLU(Layer):
    """y = max(x, 0) + slope * min(x, 0) with `negative_slope`. Any shape; may run in place."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.slope = self.param.relu_param.negative_slope
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.engine.map(relu, bottom[0].data, self.slope, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            self.engine.map(relu_grad, top[0].diff, bottom[0].data, self.slope, out=bottom[0].diff)
