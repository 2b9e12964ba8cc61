"""Accuracy: the share of items whose label is among the best `top_k` scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffepy.errors import ConfigError
from caffepy.layers import labels
from caffepy.layers.confusion import ratio
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


class CountedAccuracy:
    """Right ones and all, of each class, over all batches of a test: a meter, as `caffepy.solver.meters` has them."""

    def __init__(self, layer: Accuracy, top: int):
        self.layer, self.top = layer, top
        self.counts: Array = 0.0

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.counts = self.counts + self.layer.batch

    def value(self) -> float | Mapping[str, float]:
        right, all_ = self.layer.engine.to_host(self.counts)
        if self.top == 0:
            return float(ratio(np, right.sum(), all_.sum()))
        return dict(zip(self.layer.names, ratio(np, right, all_).tolist()))

    def merge(self, other: CountedAccuracy) -> None:
        self.counts = self.counts + other.counts


@register("Accuracy")
class Accuracy(Layer):
    """Fraction of labels that fewer than `top_k` other classes score at least as high as: ties count against it.

    x (N, K, ...) with classes on `axis` (1), labels (N, ...). `ignore_label` positions leave numerator and
    denominator; with none left the result is 0. A second top (K,) holds the accuracy of each class, 0 where it does
    not occur. No gradient. A test has the mean of its batches, as Caffe; with a `labels_file` the accuracies of all
    its items, by name.
    """

    takes_label = True
    num_bottom = 2
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = labels.ignored_label(self.param.accuracy_param)
        self.names: list[str] = []

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.accuracy_param
        self.axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        self.outer, self.inner = labels.check_label_count(self, bottom, self.axis)
        classes = bottom[0].shape[self.axis]
        if not 1 <= p.top_k <= classes:
            raise ConfigError(f"top_k must lie in 1 .. {classes}, the number of classes, got {p.top_k}")
        if p.labels_file and classes != len(self.names):
            self.names = labels.names(p.labels_file, classes)
        top[0].reshape(())
        if len(top) > 1:
            top[1].reshape(classes)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, classes = self.xp, bottom[0].shape[self.axis]
        scores = xp.reshape(bottom[0].data, (self.outer, classes, self.inner))
        given = xp.reshape(bottom[1].data, (self.outer, 1, self.inner))
        name, shape = self.bottom_name(1), bottom[1].shape
        index = labels.read_labels(self, given, classes, self.ignore, name, shape)
        valid = xp.ones(index.shape, dtype=xp.bool)
        if self.ignore is not None:
            valid = xp.astype(given, xp.int64) != self.ignore
        # The true class counts itself, hence <=.
        rivals = xp.sum(scores >= xp.take_along_axis(scores, index, axis=1), axis=1, keepdims=True)
        right = (rivals <= self.param.accuracy_param.top_k) & valid
        top[0].data[...] = ratio(xp, xp.astype(xp.sum(right), xp.float64), xp.astype(xp.sum(valid), xp.float64))
        if len(top) > 1 or self.param.accuracy_param.labels_file:
            of_class = xp.reshape(xp.arange(classes), (1, -1, 1)) == index
            self.batch = xp.stack(
                [xp.astype(xp.sum(of_class & which, axis=(0, 2)), xp.float64) for which in (right, valid)]
            )
            if len(top) > 1:
                top[1].data[...] = ratio(xp, *self.batch)

    def meter(self, top_index: int) -> Any:
        return CountedAccuracy(self, top_index) if self.param.accuracy_param.labels_file else None
