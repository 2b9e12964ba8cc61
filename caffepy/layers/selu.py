"""SeLu and SeLuDropout: an activation that keeps mean 0 and variance 1, and the dropout that does so, too."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.layers.elementwise import Elementwise, copy
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TRAIN

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805


def selu(xp, x):
    return SCALE * (xp.maximum(x, 0) + ALPHA * xp.expm1(xp.minimum(x, 0)))


def selu_grad(xp, dy, x, y):
    return dy * xp.where(y > 0, SCALE * xp.ones_like(y), y + SCALE * ALPHA)


@register("SeLu")
class SeLu(Elementwise):
    """y = 1.0507 x where x > 0, 1.0507 * 1.6733 (e^x - 1) elsewhere (Klambauer et al. 2017). May run in place."""

    function, gradient = selu, selu_grad


def drop(xp, x, mask, a, alpha, b):
    return a * (x * mask + alpha * (1 - mask)) + b


def drop_grad(xp, dy, mask, a):
    return a * dy * mask


@register("SeLuDropout")
class SeLuDropout(Layer):
    """y = a (x or `selu_dropout_param.alpha`) + b, alpha with probability `dropout_ratio`; TEST: y = x.

    a and b keep mean 0 and variance 1: q = 1 - ratio, a = 1 / sqrt(q (1 + alpha^2 (1 - q))), b = -a (1 - q) alpha
    (Klambauer et al. 2017). Any shape; may run in place.
    """

    pixelwise = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.selu_dropout_param
        if not 0 < p.dropout_ratio < 1:
            raise ConfigError(f"dropout_ratio must lie between 0 and 1, both excluded, got {p.dropout_ratio:g}")
        self.kept, self.alpha = 1 - p.dropout_ratio, p.alpha
        self.a = (self.kept * (1 + p.alpha**2 * p.dropout_ratio)) ** -0.5
        self.b = -self.a * p.dropout_ratio * p.alpha
        self.mask = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(bottom[0])
        self.mask.reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.phase == TRAIN:
            self.engine.random_mask(self.kept, self.mask.flat())
            constants = self.a, self.alpha, self.b
            self.engine.map(drop, bottom[0].data, self.mask.data, *constants, out=top[0].data)
        elif top[0] is not bottom[0]:
            self.engine.map(copy, bottom[0].data, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.phase == TRAIN:
            self.engine.map(drop_grad, top[0].diff, self.mask.data, self.a, out=bottom[0].diff)
        elif top[0] is not bottom[0]:
            self.engine.map(copy, top[0].diff, out=bottom[0].diff)
