"""What layers that pool regions of a map share: reading the regions, the bins that a region is cut into."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.errors import DataError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer


class Regions(NamedTuple):
    """Numbers of the images (R), and x1, y1, x2, y2 (R, 4) in pixels of the picture."""

    images: Array
    boxes: Array


def check_regions(layer: Layer, bottom: list[Blob]) -> int:
    """The number of regions; raises ShapeError for a map that is not (N, C, H, W), or regions that are not (R, 5)."""
    if len(bottom[0].shape) != 4:
        raise ShapeError(f"{layer.type} needs a map (N, C, H, W), {layer.bottom_name(0)} is {bottom[0].shape}")
    shape = bottom[1].shape
    if len(shape) < 2 or shape[1] != 5 or any(d != 1 for d in shape[2:]):
        raise ShapeError(f"regions {layer.bottom_name(1)} must be (R, 5): image, x1, y1, x2, y2; they are {shape}")
    return shape[0]


def read_regions(layer: Layer, bottom: list[Blob]) -> Regions:
    """The regions, on the host. Raises DataError for one of an image that is not there."""
    rows = layer.engine.to_host(bottom[1].data).reshape(-1, 5)
    images = rows[:, 0].astype(np.int64)
    count = bottom[0].shape[0]
    for i in np.flatnonzero((images < 0) | (images >= count))[:1]:
        raise DataError(
            f"region {i} of {layer.bottom_name(1)} belongs to image {rows[i, 0]:g}; {layer.bottom_name(0)} has {count}"
        )
    return Regions(images, rows[:, 1:])


def round_away(x: Array) -> Array:
    """The nearest whole number, halves away from zero, as C's round."""
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0).astype(x.dtype)


class Spans(NamedTuple):
    """First and one behind the last cell (R, P) along an axis of each of the P bins of a region."""

    start: Array
    end: Array

    @property
    def length(self) -> Array:
        """Cells of each bin, 0 where it lies outside of the map."""
        return np.maximum(self.end - self.start, 0)


def spans(length: Array, count: int, size: int, before: Array | float = 0.0, behind: Array | float = 0.0) -> Spans:
    """Cut regions (R) into `count` bins: the k-th from floor(k w) to ceil((k + 1) w), w = length / count.

    Shifted `before` rounding, or `behind` it, and cut at the map's `size`. In float32, as the forks have it: another
    rounding of w, or of a sum, could move an edge by a cell.
    """
    bins = np.arange(count, dtype=np.float32)
    width = (length / np.float32(count))[:, None]
    edges = np.floor(bins * width + before), np.ceil((bins + 1) * width + before)
    return Spans(*(np.clip(edge + behind, 0, size).astype(np.int64) for edge in edges))
