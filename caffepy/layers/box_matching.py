"""Matching of boxes with objects, on the host."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures.boxes import Array

TOUCH = 1e-6
"""Overlaps from which on SSD matches."""


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
