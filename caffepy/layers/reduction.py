"""Reduction: sum, absolute sum, sum of squares or mean over the last axes."""

from __future__ import annotations

from math import prod

from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import ReductionParameter


@register("Reduction")
class Reduction(Layer):
    """y = coeff * SUM, ASUM (of |x|), SUMSQ (of x^2) or MEAN over all axes from `reduction_param.axis` (0) on."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.reduction_param, bottom[0].shape
        self.axis = self.canonical_axis(p.axis, len(shape)) if shape else 0
        self.rows = (prod(shape[: self.axis]), prod(shape[self.axis :]))
        self.coeff = p.coeff / max(1, self.rows[1]) if p.operation == ReductionParameter.MEAN else p.coeff
        top[0].reshape(shape[: self.axis])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, operation = self.xp, self.param.reduction_param.operation
        x = bottom[0].data.reshape(self.rows)
        if operation == ReductionParameter.ASUM:
            x = xp.abs(x)
        elif operation == ReductionParameter.SUMSQ:
            x = x * x
        top[0].data[...] = (xp.sum(x, axis=1) * self.coeff).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        xp, operation = self.xp, self.param.reduction_param.operation
        dy = top[0].diff.reshape((-1, 1)) * self.coeff
        x = bottom[0].data.reshape(self.rows)
        if operation == ReductionParameter.ASUM:
            dx = dy * xp.sign(x)
        elif operation == ReductionParameter.SUMSQ:
            dx = 2 * dy * x
        else:
            dx = xp.broadcast_to(dy, self.rows)
        bottom[0].diff[...] = dx.reshape(bottom[0].shape)
