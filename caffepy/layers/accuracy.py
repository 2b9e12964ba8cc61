"""Accuracy: the share of items whose label is among the best `top_k` scores."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.layers import labels
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Accuracy")
class Accuracy(Layer):
    """Fraction of labels that fewer than `top_k` other classes score at least as high as: ties count against it.

    x (N, K, ...) with classes on `axis` (1), labels (N, ...). `ignore_label` positions leave numerator and
    denominator; with none left the result is 0. A second top (K,) holds the accuracy of each class, 0 where it does
    not occur. No gradient.
    """

    takes_label = True
    num_bottom = 2
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = labels.ignored_label(self.param.accuracy_param)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.accuracy_param
        self.axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        self.outer, self.inner = labels.check_label_count(self, bottom, self.axis)
        classes = bottom[0].shape[self.axis]
        if not 1 <= p.top_k <= classes:
            raise ConfigError(f"top_k must lie in 1 .. {classes}, the number of classes, got {p.top_k}")
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
        top[0].data[...] = _ratio(xp, xp.sum(right), xp.sum(valid))
        if len(top) > 1:
            of_class = xp.reshape(xp.arange(classes), (1, -1, 1)) == index
            counts = [xp.sum(of_class & which, axis=(0, 2)) for which in (right, valid)]
            top[1].data[...] = _ratio(xp, *counts)


def _ratio(xp, part, whole):
    """part / whole, 0 where whole is 0."""
    return xp.where(whole == 0, 0.0, part / xp.clip(whole, 1, None))
