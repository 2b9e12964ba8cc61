"""SigmoidCrossEntropyLoss: the logistic loss of the sigmoid of its input."""

from __future__ import annotations

from math import prod

from caffepy.errors import ShapeError
from caffepy.layers import labels
from caffepy.layers.sigmoid import sigmoid
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter


def cross_entropy(xp, x, target):
    # Stable for any x: the exponential is at most 1.
    return xp.maximum(x, 0) - x * target + xp.log1p(xp.exp(-xp.abs(x)))


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """L = -sum of t log s(x) + (1 - t) log(1 - s(x)) / normalizer, s the sigmoid; dx = (s(x) - t) / normalizer.

    x and targets (N, ...), targets in 0 .. 1. `loss_param` as in SoftmaxWithLoss, but the default normalization is
    BATCH_SIZE, the first axis; FULL and VALID count single values. Targets are truncated for `ignore_label`.
    """

    param_field = "loss_param"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = labels.ignored_label(self.param.loss_param)
        self.mode = labels.normalization(self.param.loss_param, LossParameter.BATCH_SIZE)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} and the targets {self.bottom_name(1)} {bottom[1].shape} "
                "must have the same count"
            )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, x = self.xp, bottom[0].data
        target = bottom[1].data.reshape(x.shape)
        losses = cross_entropy(xp, x, target)
        self.valid, count = None, prod(x.shape)
        if self.ignore is not None:
            self.valid = xp.astype(target, xp.int64) != self.ignore
            losses = xp.where(self.valid, losses, 0.0 * losses)
        valid = xp.full((), count) if self.valid is None else xp.sum(self.valid)
        counts = count, x.shape[0], valid
        self.normalizer = labels.normalizer(xp, self.mode, *counts, self.param.loss_param.pre_fixed_normalizer)
        top[0].data[...] = xp.sum(losses) / self.normalizer

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        x = bottom[0].data
        dx = sigmoid(self.xp, x) - bottom[1].data.reshape(x.shape)
        if self.valid is not None:
            dx = dx * self.valid
        bottom[0].diff[...] = dx * (top[0].diff / self.normalizer)
