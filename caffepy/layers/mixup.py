"""Mixup: pairs of items and their labels in shares; and the loss that takes labels that are shares."""

from __future__ import annotations

import numpy as np

from caffepy import rng
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers import labels
from caffepy.layers.softmax import softmax
from caffepy.layers.softmax_loss import FLOAT_MIN
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, LossLayer, register
from caffepy.proto.caffe_pb2 import TRAIN


@register("Mixup")
class Mixup(Layer):
    """y = s x + (1 - s) x', t = s onehot(label) + (1 - s) onehot(label') (Zhang et al. 2018); TEST: y = x.

    x (N, ...), labels (N); y (N, ...), t (N, `classes`). x' is the batch in another order; s is drawn for each batch,
    from the Beta distribution (`alpha`, `alpha`). SoftTargetLoss takes t. dx = s dy + (1 - s) dy'.
    """

    num_bottom = 2
    num_top = 2
    in_place = "refused"
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.mixup_param
        if p.classes < 1:
            raise ConfigError("mixup_param.classes is not set", hint="It says how many classes there are.")
        if p.alpha < 0:
            raise ConfigError(f"mixup_param.alpha must be at least 0, got {p.alpha:g}")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        count = bottom[0].shape[0] if bottom[0].shape else 0
        if bottom[1].count != count:
            raise ShapeError(f"{self.bottom_name(1)} {bottom[1].shape} must have a label for each of {count} items")
        top[0].reshape_like(bottom[0])
        top[1].reshape(count, self.param.mixup_param.classes)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p, given = self.xp, self.param.mixup_param, bottom[1].data.reshape((-1,))
        index = labels.read_labels(self, given, p.classes, None, self.bottom_name(1), bottom[1].shape)
        target = xp.astype(xp.reshape(xp.arange(p.classes), (1, -1)) == xp.reshape(index, (-1, 1)), xp.float32)
        self.share, count = 1.0, len(given)
        if self.phase == TRAIN and p.alpha > 0:
            random = rng.mt19937(rng.draw())
            self.share, order = float(np.float32(random.beta(p.alpha, p.alpha))), random.permutation(count)
            numbers = [self.engine.asarray(o.astype(np.float32)) for o in (order, np.argsort(order))]
            self.order, self.back = (xp.astype(o, xp.int64) for o in numbers)
        top[0].data[...] = self._mixed(bottom[0].data, "order")
        top[1].data[...] = self._mixed(target, "order")

    def _mixed(self, values: Array, order: str) -> Array:
        if self.share == 1:
            return values
        return self.share * values + (1 - self.share) * self.xp.take(values, getattr(self, order), axis=0)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff[...] = self._mixed(top[0].diff, "back")

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0


@register("SoftTargetLoss")
class SoftTargetLoss(LossLayer):
    """L = -sum of t log softmax(x) / N: x and t (N, K, ...), t >= 0 the shares of the classes on axis 1.

    dx = (softmax(x) sum t - t) / N, with N all positions. No gradient for t.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) < 2 or bottom[0].shape != bottom[1].shape:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} and {self.bottom_name(1)} {bottom[1].shape} must have one "
                "shape, (N, K, ...)",
                hint="Labels that are numbers of classes are for SoftmaxWithLoss.",
            )
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, t = self.xp, bottom[1].data
        self.p = softmax(xp, bottom[0].data, 1)
        self.items = max(1, bottom[0].count // max(1, bottom[0].shape[1]))
        top[0].data[...] = -xp.sum(t * xp.log(xp.clip(self.p, FLOAT_MIN, None))) / self.items

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, t = self.xp, bottom[1].data
            dx = self.p * xp.sum(t, axis=1, keepdims=True) - t
            bottom[0].diff[...] = dx * (top[0].diff / self.items)
