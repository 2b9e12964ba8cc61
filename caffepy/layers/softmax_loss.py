"""SoftmaxWithLoss: the multinomial logistic loss of the softmax of its input."""

from __future__ import annotations

import logging

from caffepy.errors import ConfigError
from caffepy.layers import labels
from caffepy.layers.softmax import softmax
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter

log = logging.getLogger(__name__)

# Caffe's floor under a probability in the logarithm: the loss of an item is at most 87.34.
FLOAT_MIN = 1.17549435e-38


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(LossLayer):
    """L = -sum of log p[label] / normalizer, p = softmax(x) over `softmax_param.axis` (1).

    x (N, K, ...), labels (N, ...) or any shape with the right count. `loss_param`:
    `ignore_label` positions count nothing and get no gradient; `normalization` VALID (default) divides by the labels
    not ignored, FULL by all, BATCH_SIZE by the product of the axes before the class axis, NONE by 1, PRE_FIXED by
    `pre_fixed_normalizer`; with `label_smoothing` e the label counts 1 - e + e / K, each other class e / K
    (Szegedy et al. 2016). SegNet's `weight_by_label_freqs` weighs each position by its label's `class_weighting`, or
    by 1 / how often the label occurs. dx = (p - 1 at the label) * weight / normalizer.
    """

    param_field = "loss_param"
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = labels.ignored_label(self.param.loss_param)
        self.mode = labels.normalization(self.param.loss_param, LossParameter.VALID)
        self.smoothing = self.param.loss_param.label_smoothing
        if not 0 <= self.smoothing <= 1:
            raise ConfigError(f"label_smoothing must lie in 0 .. 1, got {self.smoothing:g}")
        self.weighted = self.param.loss_param.weight_by_label_freqs
        if self.param.loss_param.class_weighting and not self.weighted:
            log.warning('layer "%s": class_weighting does nothing without weight_by_label_freqs: true', self.name)
        if len(top) > 1:
            # Caffe cannot build it: one loss_weight does not fit two tops, two do not fit its inner softmax.
            raise ConfigError(
                "SoftmaxWithLoss has one top here, as in Caffe",
                hint="Add a Softmax layer for the probabilities.",
            )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = self.canonical_axis(self.param.softmax_param.axis, len(bottom[0].shape))
        self.outer, self.inner = labels.check_label_count(self, bottom, self.axis)
        given, classes = len(self.param.loss_param.class_weighting), bottom[0].shape[self.axis]
        if given not in (0, classes):
            raise ConfigError(f"{given} class_weighting given for {classes} classes", hint="Give one for each class.")
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, classes = self.xp, bottom[0].shape[self.axis]
        p = xp.reshape(softmax(xp, bottom[0].data, self.axis), (self.outer, classes, self.inner))
        given = xp.reshape(bottom[1].data, (self.outer, 1, self.inner))
        name, shape = self.bottom_name(1), bottom[1].shape
        index = labels.read_labels(self, given, classes, self.ignore, name, shape)
        valid = xp.ones(index.shape, dtype=xp.bool)
        if self.ignore is not None:
            valid = xp.astype(given, xp.int64) != self.ignore
        picked = xp.take_along_axis(p, index, axis=1)
        losses = -xp.log(xp.clip(picked, FLOAT_MIN, None))
        if self.smoothing:
            every = -xp.mean(xp.log(xp.clip(p, FLOAT_MIN, None)), axis=1, keepdims=True)
            losses = (1 - self.smoothing) * losses + self.smoothing * every
        losses = xp.where(valid, losses, 0)
        if self.weighted:
            self.weights = self._weights(index, valid, classes)
            losses = losses * self.weights
        counts = self.outer * self.inner, self.outer, xp.sum(valid)
        self.normalizer = labels.normalizer(xp, self.mode, *counts, self.param.loss_param.pre_fixed_normalizer)
        self.p, self.index, self.valid = p, index, valid
        top[0].data[...] = xp.sum(losses) / self.normalizer

    def _weights(self, index: Array, valid: Array, classes: int) -> Array:
        """The weight of each position."""
        xp = self.xp
        if self.param.loss_param.class_weighting:
            table = self.engine.asarray(list(self.param.loss_param.class_weighting))
        else:
            of_class = (xp.reshape(xp.arange(classes), (1, -1, 1)) == index) & valid
            table = 1 / xp.clip(xp.astype(xp.sum(of_class, axis=(0, 2)), xp.float32), 1, None)
        return xp.reshape(xp.take(table, xp.reshape(index, (-1,))), index.shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        xp = self.xp
        classes = xp.reshape(xp.arange(self.p.shape[1]), (1, -1, 1))
        dx = xp.where(classes == self.index, self.p - (1 - self.smoothing), self.p)
        if self.smoothing:
            dx = dx - self.smoothing / self.p.shape[1]
        dx = xp.where(self.valid, dx, 0) * (top[0].diff / self.normalizer)
        if self.weighted:
            dx = dx * self.weights
        bottom[0].diff[...] = xp.reshape(dx, bottom[0].shape)
