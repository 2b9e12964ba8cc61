"""Perplexity: how many words a model hesitates between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caffepy.layers import labels
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


class MeanExponent:
    """exp of the mean over all batches of a test, of which the layer's `batch` is the sum and how many: a meter."""

    def __init__(self, layer: Any):
        self.layer = layer
        self.sums: Array = 0.0

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.sums = self.sums + self.layer.batch

    def value(self) -> float:
        total, count = self.layer.engine.to_host(self.sums).tolist()
        try:
            return math.exp(total / max(1, count))
        except OverflowError:
            return math.inf

    def merge(self, other: MeanExponent) -> None:
        self.sums = self.sums + other.sums


@register("Perplexity")
class Perplexity(Layer):
    """y = exp(mean(-log softmax(x)[label])): x (N, K, ...) as SoftmaxWithLoss takes them, labels (N, ...).

    `metric_param.ignore_label` positions are not counted; 1 where none is. Of all items of a test together, not the
    mean of its batches. No gradient.
    """

    num_bottom = 2
    takes_label = True
    param_field = "metric_param"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = labels.ignored_label(self.param.metric_param)
        self.batch = self.xp.zeros((2,), dtype=self.xp.float64)
        """The sum of -log p, and of how many."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = self.canonical_axis(self.param.metric_param.axis, len(bottom[0].shape))
        self.outer, self.inner = labels.check_label_count(self, bottom, self.axis)
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, classes = self.xp, bottom[0].shape[self.axis]
        x = xp.reshape(bottom[0].data, (self.outer, classes, self.inner))
        given = xp.reshape(bottom[1].data, (self.outer, 1, self.inner))
        index = labels.read_labels(self, given, classes, self.ignore, self.bottom_name(1), bottom[1].shape)
        x = xp.astype(x - xp.max(x, axis=1, keepdims=True), xp.float64)
        lost = xp.log(xp.sum(xp.exp(x), axis=1, keepdims=True)) - xp.take_along_axis(x, index, axis=1)
        counted = xp.ones(index.shape, dtype=xp.bool)
        if self.ignore is not None:
            counted = xp.astype(given, xp.int64) != self.ignore
        count = xp.sum(xp.astype(counted, xp.float64))
        self.batch[...] = xp.stack([xp.sum(xp.where(counted, lost, xp.zeros_like(lost))), count])
        top[0].data[...] = xp.exp(self.batch[0] / xp.clip(count, 1, None))

    def meter(self, top_index: int) -> Any:
        return MeanExponent(self)
