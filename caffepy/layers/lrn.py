"""LRN: local response normalization."""

from __future__ import annotations

from caffepy.engine.power import inverse_power
from caffepy.engine.window import Window
from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import LRNParameter


def square(xp, x):
    return x * x


def within(xp, x, mean, alpha, beta):
    return x * inverse_power(xp, 1 + alpha * mean, beta)


def within_direct_grad(xp, dy, x, mean, alpha, beta):
    """The gradient through x itself, and what the mean of squares receives."""
    scale = 1 + alpha * mean
    power = inverse_power(xp, scale, beta)
    return dy * power, dy * x * (-alpha * beta) * power / scale


def plus_twice(xp, direct, x, through_mean):
    return direct + 2 * x * through_mean


@register("LRN")
class LRN(Layer):
    """ACROSS_CHANNELS: y = x (k + alpha / n * sum of x^2 over n neighbouring channels)^-beta (Krizhevsky et al. 2012).

    WITHIN_CHANNEL: y = x (1 + alpha / n^2 * sum of x^2 over the n x n window)^-beta; `k` is not used. x (N, C, H, W),
    n = `lrn_param.local_size`, odd. Windows are cut at the border, divisors are not.
    """

    in_place = "forward"
    pixelwise = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.lrn_param
        if p.local_size % 2 == 0:
            raise ConfigError(f"lrn_param.local_size must be odd, got {p.local_size}")
        self.across = p.norm_region == LRNParameter.ACROSS_CHANNELS
        n = p.local_size
        self.window = Window((n, n), (1, 1), (n // 2, n // 2), (1, 1))
        self.mean = Blob((), self.engine)
        self.squares = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"LRN needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")
        top[0].reshape_like(bottom[0])
        if not self.across:
            self.mean.reshape_like(bottom[0])
            self.squares.reshape_like(bottom[0])
            self.plan = self.engine.pool_plan(bottom[0].shape, bottom[0].shape, self.window)

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, x, y = self.param.lrn_param, bottom[0].data, top[0].data
        if self.across:
            self.engine.lrn(x, y, p.local_size, p.alpha, p.beta, p.k)
            return
        # Average pooling whose border windows count their padding: the area is n^2 everywhere.
        self.engine.map(square, x, out=self.squares.data)
        self.engine.ave_pool(self.squares.data, self.mean.data, self.plan)
        self.engine.map(within, x, self.mean.data, p.alpha, p.beta, out=y)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        p, dy, x, dx = self.param.lrn_param, top[0].diff, bottom[0].data, bottom[0].diff
        if self.across:
            self.engine.lrn_grad(dy, x, dx, p.local_size, p.alpha, p.beta, p.k)
            return
        out: tuple[Array, Array] = (dx, self.mean.diff)
        self.engine.map(within_direct_grad, dy, x, self.mean.data, p.alpha, p.beta, out=out)
        self.engine.ave_pool_grad(self.mean.diff, self.squares.diff, self.plan)
        self.engine.map(plus_twice, dx, x, self.squares.diff, out=dx)
