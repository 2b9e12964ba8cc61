"""SegAccuracy: accuracy, recall and intersection over union of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.confusion import count_pairs, ratio
from caffepy.layers.labels import position
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


class CountedPixels:
    """What a top of SegAccuracy comes to over all batches of a test: a meter, as `caffepy.solver.meters` has them."""

    def __init__(self, layer: SegAccuracy, top: int):
        self.layer, self.top = layer, top
        self.counts: Array = 0.0

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.counts = self.counts + self.layer.batch

    def value(self) -> Array:
        return self.layer.engine.to_host(self.layer.values(self.counts)[self.top])

    def merge(self, other: CountedPixels) -> None:
        self.counts = self.counts + other.counts


@register("SegAccuracy")
class SegAccuracy(Layer):
    """Accuracy, mean recall of the classes, mean intersection over union: (1, 1, 1, 3), from a confusion matrix.

    x (N, K, H, W) scores, of which the first of the largest counts, or K = 1, a probability: class 1 above 0.5; labels
    (N, 1, H, W). `seg_accuracy_param.ignore_label` pixels are not counted; `reset: false` goes on counting from batch
    to batch. A test has the values of all its batches together. The mean recall is that of the classes that occur; in
    the mean of the last, a class that neither occurs nor is predicted counts 1. Each `output_label` adds a top:
    precision, recall and intersection over union of that class. No gradient.
    """

    num_bottom = 2
    num_top = (1, None)
    takes_label = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.seg_accuracy_param, bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"SegAccuracy needs scores (N, K, ...), {self.bottom_name(0)} is {shape}")
        self.classes = max(2, shape[1])
        if len(top) != 1 + len(p.output_label):
            raise ConfigError(f"{len(top)} top(s) for {len(p.output_label)} output_label: one, and one for each")
        if any(not 0 <= label < self.classes for label in p.output_label):
            raise ConfigError(f"output_label must lie in 0 .. {self.classes - 1}, got {list(p.output_label)}")
        self.counts, self.batch = self._zeros(), self._zeros()
        """[label, prediction], of all that is counted and of the batch."""

    def _zeros(self) -> Array:
        return self.xp.zeros((self.classes, self.classes), dtype=self.xp.float64)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        n, k, *size = bottom[0].shape
        if max(2, k) != self.classes or bottom[1].shape not in ((n, 1, *size), (n, *size)):
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} needs one label a pixel, {(n, 1, *size)}, and "
                f"{self.classes} classes; {self.bottom_name(1)} is {bottom[1].shape}"
            )
        for blob in top:
            blob.reshape(1, 1, 1, 3)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p, given = self.xp, self.param.seg_accuracy_param, bottom[1].data
        label = xp.astype(given, xp.int64).reshape((-1,))
        counted = xp.ones(label.shape, dtype=xp.bool)
        for ignored in p.ignore_label:
            counted = counted & (label != ignored)
        self._refuse_others(bottom[1], label, counted)
        x = bottom[0].data
        predicted = xp.argmax(x, axis=1) if x.shape[1] > 1 else xp.astype(x[:, 0] > 0.5, xp.int64)
        counts = count_pairs(self, label, predicted.reshape((-1,)), counted, self.classes)
        # In place: a recorded pass goes on counting in the same memory.
        self.batch[...] = counts
        self.counts[...] = counts if p.reset else self.counts + counts
        self._give(top)

    def _refuse_others(self, labels: Blob, label: Array, counted: Array) -> None:
        def error(i: int, value: float) -> DataError:
            return DataError(
                f"label {value:g} at position {position(i, labels.shape)} of {self.bottom_name(1)} "
                f"is outside 0 .. {self.classes - 1}",
                hint="Give seg_accuracy_param.ignore_label for labels that do not count.",
            )

        self.engine.refuse(self, counted & ((label < 0) | (label >= self.classes)), labels.data.reshape((-1,)), error)

    def _give(self, top: list[Blob]) -> None:
        for blob, triple in zip(top, self.values(self.counts)):
            blob.data[...] = self.xp.astype(triple, self.xp.float32).reshape(blob.shape)

    def values(self, counts: Array) -> list[Array]:
        """Three numbers a top, from a confusion matrix."""
        xp, right = self.xp, self.xp.linalg.diagonal(counts)
        labelled, predicted = (xp.sum(counts, axis=axis) for axis in (1, 0))
        recall, precision = ratio(xp, right, labelled), ratio(xp, right, predicted)
        union = labelled + predicted - right
        jaccard = ratio(xp, right, union)
        accuracy = ratio(xp, xp.sum(right), xp.sum(labelled))
        mean_recall = ratio(xp, xp.sum(recall), xp.sum(xp.astype(labelled > 0, xp.float64)))
        mean_jaccard = xp.mean(jaccard + (union == 0))
        values = [(accuracy, mean_recall, mean_jaccard)]
        values += [(precision[k], recall[k], jaccard[k]) for k in self.param.seg_accuracy_param.output_label]
        return [xp.stack(triple) for triple in values]

    def meter(self, top_index: int) -> Any:
        return CountedPixels(self, top_index)

    def state(self) -> dict[str, Any]:
        return {} if self.param.seg_accuracy_param.reset else {"counts": self.engine.to_host(self.counts).copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        if "counts" in state:
            self.counts[...] = self.xp.asarray(state["counts"])
