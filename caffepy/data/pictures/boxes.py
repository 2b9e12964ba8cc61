"""Boxes in pictures, xmin, ymin, xmax, ymax in the last axis: areas, overlaps, one box seen from within another."""

from __future__ import annotations

import numpy as np

UNIT = np.array([0, 0, 1, 1], np.float32)
"""The whole picture."""

TINY = np.float32(1e-30)
"""Under a divisor that is 0 only where the dividend is."""

Array = np.ndarray


def area(boxes: Array, extra: float = 0) -> Array:
    """(xmax - xmin) (ymax - ymin), 0 for a box whose edges are exchanged; `extra` is 1 where pixels are counted."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.where((width < 0) | (height < 0), 0, (width + extra) * (height + extra))


def intersection(a: Array, b: Array, extra: float = 0) -> Array:
    """The area (A, B) that each of the boxes a (A, 4) has in common with each of b (B, 4)."""
    (left, top, right, bottom), (others_left, others_top, others_right, others_bottom) = a.T[..., None], b.T.copy()
    width = np.minimum(right, others_right) - np.maximum(left, others_left) + extra
    height = np.minimum(bottom, others_bottom) - np.maximum(top, others_top) + extra
    return np.maximum(width, 0) * np.maximum(height, 0)


def iou(a: Array, b: Array, extra: float = 0) -> Array:
    """Intersection over union (A, B), the Jaccard overlap; 0 where boxes have no area in common."""
    common = intersection(a, b, extra)
    return common / np.maximum(area(a, extra)[:, None] + area(b, extra) - common, TINY)


def coverage(a: Array, b: Array) -> Array:
    """Which share (A, B) of each of the boxes a each of b covers."""
    common = intersection(a, b)
    return common / np.maximum(area(a), TINY)[:, None]


def clip(boxes: Array, height: float = 1, width: float = 1) -> Array:
    """Cut at the edges of a picture."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def locate(inner: Array, outer: Array) -> Array:
    """Boxes that are given as shares of the box `outer`, as shares of what that is given in."""
    return np.tile(outer[:2], 2) + inner * np.tile(outer[2:] - outer[:2], 2)


def project(boxes: Array, outer: Array) -> Array:
    """The opposite of `locate`."""
    return (boxes - np.tile(outer[:2], 2)) / np.tile(outer[2:] - outer[:2], 2)
