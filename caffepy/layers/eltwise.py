"""Eltwise: product, weighted sum or maximum of several bottoms."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import EltwiseParameter


def product(xp, first, *rest):
    for x in rest:
        first = first * x
    return first


def weighted_sum(xp, *terms):
    half = len(terms) // 2
    total = None
    for x, coeff in zip(terms[:half], terms[half:]):
        term = x if coeff == 1 else coeff * x
        total = term if total is None else total + term
    return total


def largest(xp, first, second, *rest):
    """The maximum, and the number of the bottom it came from: of the first two the second wins a tie."""
    best = xp.maximum(first, second)
    winner = xp.astype(first <= second, first.dtype)
    for number, x in enumerate(rest, 2):
        # Numbers rise, so the last winner has the highest; `where` takes ten times as long.
        winner = xp.maximum(winner, xp.astype(x > best, x.dtype) * number)
        best = xp.maximum(best, x)
    return best, winner


def product_grad(xp, dy, *others):
    return dy * product(xp, *others)


def unstable_product_grad(xp, dy, y, x):
    return dy * (y / x)


def scaled(xp, dy, coeff):
    return dy * coeff


def largest_grad(xp, dy, winner, number):
    return dy * (winner == number)


@register("Eltwise")
class Eltwise(Layer):
    """PROD: y = product of the bottoms; SUM: y = sum of coeff_i x_i; MAX: the largest. All of one shape.

    `eltwise_param.coeff` gives one factor a bottom, for SUM alone. MAX sends the gradient to the winner. With
    `stable_prod_grad: false` PROD's gradient is dy y / x (nan at 0), else the product of the other bottoms.
    """

    in_place = "forward"
    pixelwise = True
    num_bottom = (2, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.eltwise_param
        self.operation = p.operation
        if p.coeff and len(p.coeff) != len(bottom):
            raise ConfigError(f"{len(p.coeff)} coeff for {len(bottom)} bottoms; give one for each, or none")
        if p.coeff and p.operation == EltwiseParameter.PROD:
            raise ConfigError("PROD takes no coeff", hint="Remove coeff, or use SUM.")
        self.coeffs = list(p.coeff) or [1.0] * len(bottom)
        self.winner = Blob((), self.engine)
        if p.operation == EltwiseParameter.SUM and self.coeffs == [1, 1]:
            self.comes_after = "sum"

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check_same_shape(bottom)
        top[0].reshape_like(bottom[0])
        if self.operation == EltwiseParameter.MAX:
            self.winner.reshape_like(bottom[0])

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        inputs = [blob.data for blob in bottom]
        if self.operation == EltwiseParameter.PROD:
            self.engine.map(product, *inputs, out=top[0].data)
        elif self.operation == EltwiseParameter.SUM:
            self.engine.map(weighted_sum, *inputs, *self.coeffs, out=top[0].data)
        else:
            self.engine.map(largest, *inputs, out=(top[0].data, self.winner.data))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dy = top[0].diff
        for i, (blob, wanted) in enumerate(zip(bottom, propagate_down)):
            if not wanted:
                continue
            if self.operation == EltwiseParameter.SUM:
                self.engine.map(scaled, dy, self.coeffs[i], out=blob.diff)
            elif self.operation == EltwiseParameter.MAX:
                self.engine.map(largest_grad, dy, self.winner.data, float(i), out=blob.diff)
            elif self.param.eltwise_param.stable_prod_grad:
                others = [other.data for j, other in enumerate(bottom) if j != i]
                self.engine.map(product_grad, dy, *others, out=blob.diff)
            else:
                self.engine.map(unstable_product_grad, dy, top[0].data, blob.data, out=blob.diff)
