"""ConfusionMatrix, PrecisionRecall, MeanIoU: metrics of counts of (label, prediction)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from caffepy.errors import ConfigError
from caffepy.layers import labels
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Count, Layer, register
from caffepy.proto.caffe_pb2 import MetricParameter

_MOST_CLASSES = 32
"""Above them a confusion matrix names only what occurs in it."""


def count_pairs(layer: Layer, label: Array, predicted: Array, counted: Array, classes: int) -> Array:
    """How often each pair occurs, (classes, classes) [label, prediction], of entries of one axis that are `counted`."""
    xp = layer.xp
    pairs = xp.clip(label, 0, classes - 1) * classes + predicted
    counts = layer.engine.zeros(classes**2).reshape((-1, 1))
    layer.engine.scatter_add(counts, pairs, xp.astype(counted, xp.float32).reshape((-1, 1)))
    return xp.astype(counts.reshape((classes, classes)), xp.float64)


def ratio(xp: Any, part: Array, whole: Array) -> Array:
    """part / whole, 0 where whole is 0."""
    return xp.where(whole == 0, 0.0 * whole, part / xp.where(whole == 0, 1.0 + 0.0 * whole, whole))


class CountedPairs:
    """The counts of all batches of a test: a meter, as `caffepy.solver.meters` has them."""

    def __init__(self, layer: Confusion, top: int):
        self.layer, self.top = layer, top
        self.counts: Array = 0.0

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.counts = self.counts + self.layer.batch

    def value(self) -> float | Mapping[str, float]:
        return self.layer.value(self.layer.engine.to_host(self.counts), self.top)

    def merge(self, other: CountedPairs) -> None:
        self.counts = self.counts + other.counts


class Confusion(Layer):
    """Base of metrics of the largest score against the label: bottoms x (N, K, ...) and labels (N, ...). No gradient.

    Of equal scores the first counts; K = 1 is a probability, class 1 above `threshold`. A batch's top is that of the
    batch, over a test it is that of all its items. A second top has the values of each class.
    """

    num_bottom = 2
    num_top: ClassVar[Count] = (1, 2)
    takes_label = True
    param_field = "metric_param"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ignore = labels.ignored_label(self.param.metric_param)
        self.names: list[str] = []

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.metric_param
        self.axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        labels.check_label_count(self, bottom, self.axis)
        classes = max(2, bottom[0].shape[self.axis])
        if classes != len(self.names):
            self.names = labels.names(p.labels_file, classes)
            self.batch = self.xp.zeros((classes, classes), dtype=self.xp.float64)
            """[label, prediction]"""
        for blob, values in zip(top, self.values(np, np.zeros((classes, classes)))):
            blob.reshape(values.shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, classes = self.xp, len(self.names)
        given = bottom[1].data.reshape((-1,))
        label = labels.read_labels(self, given, classes, self.ignore, self.bottom_name(1), bottom[1].shape)
        counted = xp.ones(label.shape, dtype=xp.bool)
        if self.ignore is not None:
            counted = xp.astype(given, xp.int64) != self.ignore
        self.batch[...] = count_pairs(self, label, self._predicted(bottom[0]).reshape((-1,)), counted, classes)
        for blob, values in zip(top, self.values(xp, self.batch)):
            blob.data[...] = xp.astype(values, xp.float32)

    def _predicted(self, scores: Blob) -> Array:
        if scores.shape[self.axis] > 1:
            return self.xp.argmax(scores.data, axis=self.axis)
        return self.xp.astype(scores.data > self.param.metric_param.threshold, self.xp.int64)

    def values(self, xp: Any, counts: Array) -> list[Array]:
        """The tops, from counts [label, prediction]."""
        raise NotImplementedError

    def value(self, counts: np.ndarray, top_index: int) -> float | Mapping[str, float]:
        """What a test says of a top: one number, or numbers with names."""
        values = self.values(np, counts)[top_index]
        return dict(zip(self.names, values.tolist())) if values.ndim else float(values)

    def meter(self, top_index: int) -> Any:
        return CountedPairs(self, top_index)


@register("ConfusionMatrix")
class ConfusionMatrix(Confusion):
    """How many items of each class are taken for each: a top (K, K) [label, prediction].

    A test names them `LABEL/PREDICTION`; with more than 32 classes only those that are not 0.
    """

    num_top: ClassVar[Count] = 1

    def values(self, xp: Any, counts: Array) -> list[Array]:
        return [counts]

    def value(self, counts: np.ndarray, top_index: int) -> Mapping[str, float]:
        shown = counts if len(counts) > _MOST_CLASSES else np.ones_like(counts)
        return {f"{self.names[i]}/{self.names[j]}": float(counts[i, j]) for i, j in np.argwhere(shown).tolist()}


@register("PrecisionRecall")
class PrecisionRecall(Confusion):
    """Precision, recall and F1 = 2 TP / (2 TP + FP + FN), 0 where nothing is counted: a top (3,), a second (K, 3).

    `average` says how the values of the classes become one. A test names them `precision`, `recall`, `f1`, those of the
    second top `CLASS/f1` and so on.
    """

    measures = ("precision", "recall", "f1")

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.metric_param
        axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        self.average = MetricParameter.BINARY if bottom[0].shape[axis] == 1 else MetricParameter.MACRO
        if p.HasField("average"):
            self.average = p.average
        if self.average == MetricParameter.BINARY and bottom[0].shape[axis] > 2:
            raise ConfigError(f"average: BINARY is for 2 classes, there are {bottom[0].shape[axis]}")

    def values(self, xp: Any, counts: Array) -> list[Array]:
        right, labelled, predicted = xp.linalg.diagonal(counts), xp.sum(counts, axis=1), xp.sum(counts, axis=0)
        if self.average == MetricParameter.MICRO:
            total = ratio(xp, xp.sum(right), xp.sum(counts))
            whole = xp.stack([total, total, total])
        found = xp.stack(
            [ratio(xp, right, predicted), ratio(xp, right, labelled), ratio(xp, 2 * right, labelled + predicted)]
        )
        if self.average != MetricParameter.MICRO:
            weights = self._weights(xp, labelled, predicted)
            whole = ratio(xp, xp.sum(found * weights, axis=1), xp.sum(weights))
        return [whole, found.T]

    def _weights(self, xp: Any, labelled: Array, predicted: Array) -> Array:
        """Of the classes in the mean."""
        if self.average == MetricParameter.BINARY:
            return xp.astype(xp.arange(len(self.names)) == 1, xp.float64)
        return labelled if self.average == MetricParameter.WEIGHTED else xp.astype(labelled + predicted > 0, xp.float64)

    def value(self, counts: np.ndarray, top_index: int) -> Mapping[str, float]:
        values = self.values(np, counts)[top_index]
        if top_index == 0:
            return dict(zip(self.measures, values.tolist()))
        return {
            f"{name}/{measure}": number
            for name, row in zip(self.names, values.tolist())
            for measure, number in zip(self.measures, row)
        }


@register("MeanIoU")
class MeanIoU(Confusion):
    """Intersection over union of labels and predictions, the mean over the classes that occur or are predicted.

    A second top (K,) has that of each class, 0 where it does neither.
    """

    def values(self, xp: Any, counts: Array) -> list[Array]:
        right = xp.linalg.diagonal(counts)
        union = xp.sum(counts, axis=1) + xp.sum(counts, axis=0) - right
        shares = ratio(xp, right, union)
        return [ratio(xp, xp.sum(shares), xp.sum(xp.astype(union > 0, xp.float64))), shares]
