"""Swish: y = x sigmoid(beta x)."""

from __future__ import annotations

from caffepy.layers.sigmoid import sigmoid
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


def swish(xp, x, beta):
    gate = sigmoid(xp, beta * x)
    return x * gate, gate


def swish_grad(xp, dy, y, gate, beta):
    return dy * (beta * y + gate * (1 - beta * y))


@register("Swish")
class Swish(Layer):
    """y = x sigmoid(beta x) with `swish_param.beta` (Ramachandran et al. 2017). Any shape; may run in place."""

    pixelwise = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.beta = self.param.swish_param.beta
        self.gate = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(bottom[0])
        self.gate.reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.engine.map(swish, bottom[0].data, self.beta, out=(top[0].data, self.gate.data))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            arrays = top[0].diff, top[0].data, self.gate.data
            self.engine.map(swish_grad, *arrays, self.beta, out=bottom[0].diff)
