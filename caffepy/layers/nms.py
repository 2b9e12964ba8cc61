"""Non-maximum suppression, on the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffepy.data.pictures.boxes import Array, iou

ROWS = 128
"""Boxes whose overlaps with all others are computed at once."""


def best(scores: Array, count: int = -1) -> Array:
    """Indices of the `count` largest scores (-1: of all), largest first, of equal ones the first."""
    if 0 <= count < len(scores):
        if count == 0:
            return np.zeros(0, np.intp)
        among = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
        return among[np.argsort(-scores[among], kind="stable")[:count]]
    return np.argsort(-scores, kind="stable")


def nms(
    boxes: Array,
    threshold: float,
    eta: float = 1.0,
    overlaps: Callable[[Array, Array], Array] = iou,
    limit: int | None = None,
) -> Array:
    """Indices of the boxes, best first, that overlap no better one that is kept by more than `threshold`.

    With eta < 1 the threshold, while above 0.5, is multiplied by it after each box that is kept. At most `limit` boxes.
    """
    worst = np.zeros(len(boxes), np.float32)  # the largest overlap with a box that is kept
    kept: list[int] = []
    for start in range(0, len(boxes), ROWS):
        free = start + np.flatnonzero(worst[start : start + ROWS] <= threshold)
        rest = worst[start:]
        for i, row in zip(free.tolist(), overlaps(boxes[free], boxes[start:])):
            if len(kept) == limit:
                return np.array(kept, np.intp)
            if worst[i] <= threshold:
                kept.append(i)
                np.maximum(rest, row, out=rest)
                if eta < 1 and threshold > 0.5:
                    threshold *= eta
    return np.array(kept, np.intp)
