"""AUC, GAUC, AveragePrecision, LogLoss: scores of all items of a test together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from caffepy.errors import DataError, ShapeError
from caffepy.layers import labels
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


def grouped_auc(scores: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """The mean over groups of the share of pairs (positive, negative) whose scores are in order, ties counting half.

    Groups weigh as many items as they have; those without a pair are left out. 0.5 where there is none,
    NaN where a score is none: numbers that are none have no order.
    """
    if np.isnan(scores).any():
        return float("nan")
    _, cell, group_of_cell = _cells(scores, groups)
    positive = np.bincount(cell, weights=labels, minlength=len(group_of_cell))
    total = np.bincount(cell, minlength=len(group_of_cell))
    negative = total - positive
    starts = np.flatnonzero(np.diff(group_of_cell, prepend=-1))
    before = np.cumsum(negative) - negative  # with lower scores, of this group and all before it
    before = before - np.repeat(before[starts], np.diff(np.append(starts, len(before))))
    ordered = np.add.reduceat(positive * (before + negative / 2), starts) if len(starts) else np.zeros(0)
    positives, sizes = (np.add.reduceat(x, starts) if len(starts) else np.zeros(0) for x in (positive, total))
    pairs = positives * (sizes - positives)
    if not pairs.any():
        return 0.5
    some = pairs > 0
    return float(np.average(ordered[some] / pairs[some], weights=sizes[some]))


def step_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Average precision: the sum over distinct scores, from the best, of (step of recall) * precision.

    0 where there is no positive.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)  # of those of equal score
    hits = np.cumsum(labels[order])[last]
    if not len(hits) or not hits[-1]:
        return 0.0
    return float(np.sum(np.diff(hits, prepend=0) * hits / (last + 1)) / hits[-1])


def _cells(scores: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal scores of one group are a cell: the order of the items, the cell of each, the group of each cell."""
    order = np.lexsort((scores, groups))
    ranked_groups, ranked_scores = groups[order], scores[order]
    new = np.ones(len(order), bool)
    new[1:] = (ranked_groups[1:] != ranked_groups[:-1]) | (ranked_scores[1:] != ranked_scores[:-1])
    cell = np.empty(len(order), int)
    cell[order] = np.cumsum(new) - 1
    _, number = np.unique(ranked_groups[new], return_inverse=True)
    return order, cell, number


class Scored:
    """All items of a test with their scores: a meter, as `caffepy.solver.meters` has them."""

    def __init__(self, layer: Score, top: int):
        self.layer, self.top = layer, top
        self.parts: list[list[np.ndarray]] = []

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.parts.append(self.layer.items(bottom))

    def value(self) -> float | Mapping[str, float]:
        return self.layer.value([np.concatenate(arrays) for arrays in zip(*self.parts)], self.top)

    def merge(self, other: Scored) -> None:
        self.parts += other.parts


class Score(Layer):
    """Base of scores over items: bottoms (N, ...) of one count, the last one, if it is one more, the mask of the task.

    A batch's top is the batch's score; over a test it is that of all items of all batches. No gradient.
    """

    recordable = False

    arguments: ClassVar[int]
    """How many bottoms there are without the mask."""
    takes_label = True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if blob.count != bottom[0].count:
                raise ShapeError(
                    f"{self.bottom_name(0)} {bottom[0].shape} and {self.bottom_name(i)} {blob.shape} must have the "
                    "same count"
                )
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = self.score(*self.items(bottom))

    def meter(self, top_index: int) -> Any:
        return Scored(self, top_index)

    def items(self, bottom: Sequence[Blob]) -> list[np.ndarray]:
        """Copies of what the mask leaves of the bottoms, one axis each."""
        arrays = [np.array(blob.host()).reshape(-1) for blob in bottom]
        if len(arrays) > self.arguments:
            mask = arrays.pop() != 0
            arrays = [array[mask] for array in arrays]
        return arrays

    def score(self, *arrays: np.ndarray) -> float:
        """The score of these items, from the arrays of the bottoms."""
        raise NotImplementedError

    def value(self, arrays: list[np.ndarray], top_index: int) -> float | Mapping[str, float]:
        """What a test says of a top."""
        return self.score(*arrays)


@register("AUC")
class AUC(Score):
    """The area under the ROC curve: bottoms scores and labels, 0 or 1, and the mask of the task's own samples.

    The share of pairs of a positive and a negative whose scores are in order, ties counting half; 0.5 without a pair.
    A test has that of all its items, not a mean over batches.
    """

    num_bottom = (2, 3)
    arguments = 2

    def score(self, *arrays: np.ndarray) -> float:
        scores, labels = arrays
        return grouped_auc(scores, labels > 0.5, np.zeros(len(scores)))


@register("GAUC")
class GAUC(Score):
    """The mean AUC within groups (a user's impressions), weighted by their items: bottoms scores, labels, groups, mask.

    Groups without both labels are left out; 0.5 where there is no other. A test has that of all its items.
    """

    num_bottom = (3, 4)
    arguments = 3

    def score(self, *arrays: np.ndarray) -> float:
        scores, labels, groups = arrays
        return grouped_auc(scores, labels > 0.5, groups)


class ClassScore(Score):
    """Base of scores of classes: x (N, K, ...) and labels (N, ...); or x and 0 or 1, of one count. A mask is the third.

    Labels of one count are of one class, or of K where x is (N, K).
    """

    num_bottom = (2, 3)
    arguments = 2
    param_field = "metric_param"

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.by_label = bottom[0].count != bottom[1].count
        if self.by_label:
            self.axis = self.canonical_axis(self.param.metric_param.axis, len(bottom[0].shape))
            labels.check_label_count(self, bottom, self.axis)
        super().reshape(bottom[1:] if self.by_label else bottom, top)

    def rows(self, bottom: Sequence[Blob]) -> tuple[np.ndarray, np.ndarray]:
        """Scores (n, K) and labels (n) of what is neither masked nor ignored."""
        x, given = np.moveaxis(bottom[0].host(), self.axis, -1), np.reshape(bottom[1].host(), -1)
        index, classes = given.astype(int), x.shape[-1]
        ignore = labels.ignored_label(self.param.metric_param)
        kept = index != ignore if ignore is not None else np.ones(len(index), bool)
        wrong = np.flatnonzero(kept & ((index < 0) | (index >= classes)))
        if len(wrong):
            raise DataError(
                f"label {given[wrong[0]]:g} at position {labels.position(int(wrong[0]), bottom[1].shape)} of "
                f"{self.bottom_name(1)} is outside 0 .. {classes - 1}"
            )
        if len(bottom) > 2:
            kept = kept & (np.reshape(bottom[2].host(), -1) != 0)
        return x.reshape(-1, classes)[kept], index[kept]


@register("LogLoss")
class LogLoss(ClassScore):
    """The mean of -(t log p + (1 - t) log(1 - p)): bottoms p, t and the mask of the task's own samples.

    With classes, p (N, K) and labels (N), of -log p[label]. 0 without items. p is kept 1e-7 from 0 and 1. A test has
    that of all its items.
    """

    def items(self, bottom: Sequence[Blob]) -> list[np.ndarray]:
        if not self.by_label:
            return super().items(bottom)
        p, label = self.rows(bottom)
        return [p[np.arange(len(label)), label], np.ones(len(label))]

    def score(self, *arrays: np.ndarray) -> float:
        scores, target = arrays
        p = np.clip(scores.astype(float), 1e-7, 1 - 1e-7)
        return float(-(target * np.log(p) + (1 - target) * np.log1p(-p)).mean()) if len(p) else 0.0


@register("AveragePrecision")
class AveragePrecision(ClassScore):
    """Average precision of scores, equal ones together; of several classes the mean (mAP).

    Bottoms scores and labels, 0 or 1, of one count, (N) or (N, K); or scores (N, K) and labels (N); and a mask. A
    second top (K,) has that of each class. A class without items has 0, in the mean, too. A test has that
    of all its items.
    """

    num_top = (1, 2)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        classes = shape[self.axis] if self.by_label else shape[1] if len(shape) == 2 else 1
        if vars(self).get("classes") != classes:
            self.classes, self.names = classes, labels.names(self.param.metric_param.labels_file, classes)
        if len(top) > 1:
            top[1].reshape((classes,))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        found = self.of_classes(*self.items(bottom))
        top[0].data[...] = float(found.mean())
        if len(top) > 1:
            top[1].data[...] = self.engine.asarray(found)

    def items(self, bottom: Sequence[Blob]) -> list[np.ndarray]:
        """Of each item and class: the score, whether it is right, and the class."""
        if not self.by_label:
            scores, right, *mask = (np.array(blob.host()).reshape(-1) for blob in bottom)
            found = [scores, right > 0.5, np.arange(len(scores)) % self.classes]
            return [array[mask[0] != 0] for array in found] if mask else found
        x, label = self.rows(bottom)
        column = np.broadcast_to(np.arange(self.classes), x.shape).reshape(-1)
        return [np.array(x).reshape(-1), np.repeat(label, self.classes) == column, column]

    def of_classes(self, scores: np.ndarray, right: np.ndarray, column: np.ndarray) -> np.ndarray:
        """(K,)"""
        order, cuts = np.argsort(column, kind="stable"), np.cumsum(np.bincount(column, minlength=self.classes))[:-1]
        return np.array([step_precision(*each) for each in zip(*(np.split(x[order], cuts) for x in (scores, right)))])

    def value(self, arrays: list[np.ndarray], top_index: int) -> float | Mapping[str, float]:
        found = self.of_classes(*arrays)
        return dict(zip(self.names, found.tolist())) if top_index else float(found.mean())
