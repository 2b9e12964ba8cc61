"""What layers do with boxes, on the host: offsets from priors, non-maximum suppression, matching with objects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffepy.data.pictures.boxes import Array, iou
from caffepy.proto.caffe_pb2 import PriorBoxParameter

Code = PriorBoxParameter.CodeType

ROWS = 128
"""Boxes whose overlaps with all others are computed at once."""
TOUCH = 1e-6
"""Overlaps from which on SSD matches."""


def _centres(boxes: Array) -> tuple[Array, Array]:
    """Centres and sizes, x and y each."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def decode(code: Code, offsets: Array, priors: Array, variances: Array | float = 1.0) -> Array:
    """Boxes (..., 4) from offsets l and priors, v the variances.

    CORNER: prior + v l. CORNER_SIZE: prior + v l size. CENTER_SIZE: centre + v l size, and exp(v l) size.
    """
    scaled = offsets * variances
    if code == PriorBoxParameter.CORNER:
        return priors + scaled
    centre, size = _centres(priors)
    if code == PriorBoxParameter.CORNER_SIZE:
        return priors + scaled * np.concatenate([size, size], axis=-1)
    centre, half = centre + scaled[..., :2] * size, np.exp(scaled[..., 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def encode(code: Code, boxes: Array, priors: Array, variances: Array | float = 1.0) -> Array:
    """The offsets that `decode` makes `boxes` of."""
    if code == PriorBoxParameter.CORNER:
        return (boxes - priors) / variances
    centre, size = _centres(priors)
    if code == PriorBoxParameter.CORNER_SIZE:
        return (boxes - priors) / np.concatenate([size, size], axis=-1) / variances
    own_centre, own_size = _centres(boxes)
    return np.concatenate([(own_centre - centre) / size, np.log(own_size / size)], axis=-1) / variances


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


def match(overlaps: Array, threshold: float | None) -> tuple[Array, Array]:
    """For each box the object that it belongs to, or -1, and its overlap with that, or with the nearest one.

    `overlaps` (P, G). First pairs, those that overlap most before others, one box an object; then, unless `threshold`
    is None, every other box goes to the object that it overlaps most, if by the threshold at least.
    """
    touching = np.where(overlaps > TOUCH, overlaps, 0)
    largest = touching.max(axis=1, initial=0)
    index = np.full(len(overlaps), -1)
    if threshold is not None and touching.shape[1]:
        index = np.where((largest >= threshold) & (largest > 0), touching.argmax(axis=1), -1)
    left = touching.copy()
    for _ in range(touching.shape[1]):
        box, thing = divmod(int(left.argmax()), left.shape[1])
        if not left[box, thing]:
            break
        index[box], largest[box] = thing, left[box, thing]
        left[box], left[:, thing] = 0, 0
    return index, largest
