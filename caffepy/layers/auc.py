"""AUC, GAUC: how well scores rank what is before what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from caffepy.errors import ShapeError
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

    def __init__(self, layer: Score):
        self.layer = layer
        self.parts: list[list[np.ndarray]] = []

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.parts.append(self.layer.items(bottom))

    def value(self) -> float:
        return self.layer.score(*(np.concatenate(arrays) for arrays in zip(*self.parts)))

    def merge(self, other: Scored) -> None:
        self.parts += other.parts


class Score(Layer):
    """Base of scores over items: bottoms (N, ...) of one count, the last one, if it is one more, the mask of the task.

    A batch's top is the batch's score; over a test it is that of all items of all batches.
    """

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
        return Scored(self)

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


@register("AUC")
class AUC(Score):
    """The area under the ROC curve: bottoms scores and labels, 0 or 1, and the mask of the task's own samples.

    The share of pairs of a positive and a negative whose scores are in order, ties counting half; 0.5 without a pair.
    A test has that of all its items, not a mean over batches.
    """

    num_bottom = (2, 3)
    arguments = 2
    recordable = False

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
    recordable = False

    def score(self, *arrays: np.ndarray) -> float:
        scores, labels, groups = arrays
        return grouped_auc(scores, labels > 0.5, groups)


@register("LogLoss")
class LogLoss(Score):
    """The mean of -(t log p + (1 - t) log(1 - p)): bottoms p, t and the mask of the task's own samples.

    0 without items. p is kept 1e-7 from 0 and 1. A test has that of all its items.
    """

    num_bottom = (2, 3)
    arguments = 2
    recordable = False

    def score(self, *arrays: np.ndarray) -> float:
        scores, target = arrays
        p = np.clip(scores.astype(float), 1e-7, 1 - 1e-7)
        return float(-(target * np.log(p) + (1 - target) * np.log1p(-p)).mean()) if len(p) else 0.0
