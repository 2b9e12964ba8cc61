"""DetectionEvaluate: which detections are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from caffepy.data.pictures.boxes import Array, iou
from caffepy.data.pictures.resizing import in_pixels
from caffepy.data.sources.picture_sizes import PictureSize, read_sizes
from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.average_precision import mean_average_precision
from caffepy.layers.nms import best
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register

IMAGE, LABEL, SCORE = 0, 1, 2
"""Columns of detections and, but for the score, of objects."""


def judge(overlaps: Array, difficult: Array, threshold: float) -> Array:
    """Right and wrong (D, 2) of detections, best first, by their overlaps (D, G) with the objects of their class.

    Each belongs to the object that it overlaps most, if by `threshold` at least. The first of an object is right,
    others are wrong; those of `difficult` objects are neither.
    """
    nearest = overlaps.argmax(axis=1)
    near = overlaps.max(axis=1) >= threshold
    counts = near & ~difficult[nearest]
    first = np.zeros(len(overlaps), bool)
    first[np.unique(np.where(counts, nearest, -1), return_index=True)[1]] = True
    right = counts & first
    return np.stack([right, ~right & ~(near & difficult[nearest])], axis=1)


class MeanAveragePrecision:
    """The mean average precision of all rows of a test: a meter, as `caffepy.solver.meters` has them."""

    def __init__(self) -> None:
        self.rows: list[Array] = []

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        self.rows.append(np.array(top.host()).reshape(-1, 5))

    def value(self) -> float:
        return mean_average_precision(np.concatenate(self.rows))[0]

    def merge(self, other: MeanAveragePrecision) -> None:
        self.rows += other.rows


@register("DetectionEvaluate")
class DetectionEvaluate(Layer):
    """Rows (1, 1, K, 5): -1, class, number of objects, -1, -1; then image, class, score, right, wrong of detections.

    Bottoms: detections (1, 1, D, 7) as of DetectionOutput; objects (1, 1, G, 8): image, class, instance, box,
    difficult. An overlap of `overlap_threshold` is needed; with `evaluate_difficult_gt: false` difficult objects count
    neither way. With `name_size_file` boxes are compared in pixels of the pictures, which come in that file's order.
    A test has the mean average precision of all its batches, SSD's "Integral". No gradient.
    """

    num_bottom = 2
    takes_label = True
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.detection_evaluate_param
        if not p.num_classes:
            raise ConfigError("detection_evaluate_param.num_classes is not set", hint="Count the background, too.")
        if p.overlap_threshold <= 0:
            raise ConfigError(f"overlap_threshold must be positive, got {p.overlap_threshold:g}")
        self.classes = [c for c in range(p.num_classes) if c != p.background_label_id]
        self.sizes: list[PictureSize] = read_sizes(p.name_size_file) if p.name_size_file else []
        self.seen = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, (width, kind) in enumerate(((7, "detections"), (8, "objects"))):
            if len(bottom[i].shape) != 4 or bottom[i].shape[:2] != (1, 1) or bottom[i].shape[3] != width:
                raise ShapeError(f"{kind} {self.bottom_name(i)} must be (1, 1, K, {width}), they are {bottom[i].shape}")
        top[0].reshape((1, 1, len(self.classes) + bottom[0].shape[2], 5))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        found, objects = (self.engine.to_host(blob.data)[0, 0] for blob in bottom)
        # SSD stops reading objects at the first that is none.
        objects = objects[: np.append(np.flatnonzero(objects[:, IMAGE] == -1), len(objects))[0]]
        self._check(found, objects, bottom)
        rows = np.concatenate([self._counts(objects), *self._judged(found[found[:, IMAGE] != -1], objects)])
        top[0].reshape((1, 1, *rows.shape))
        top[0].data[...] = self.engine.asarray(rows)

    def _check(self, found: Array, objects: Array, bottom: list[Blob]) -> None:
        background = self.param.detection_evaluate_param.background_label_id
        for i, rows in enumerate((found, objects)):
            if np.any((rows[:, LABEL] == background) & (rows[:, IMAGE] != -1)):
                raise DataError(f"{self.bottom_name(i)} has a row of class {background}, the background")

    def _counts(self, objects: Array) -> Array:
        """A row for each class: how many objects there are to find."""
        counted = objects[self.param.detection_evaluate_param.evaluate_difficult_gt | (objects[:, -1] == 0)]
        return np.array([[-1, c, np.sum(counted[:, LABEL] == c), -1, -1] for c in self.classes]).reshape(-1, 5)

    def _judged(self, found: Array, objects: Array) -> Iterator[Array]:
        """Rows for the detections of each image and class."""
        for image in np.unique(found[:, IMAGE]):
            of_image, things = found[found[:, IMAGE] == image], objects[objects[:, IMAGE] == image]
            for label in np.unique(of_image[of_image[:, LABEL] != -1, LABEL]):
                yield self._judged_class(of_image[of_image[:, LABEL] == label], things[things[:, LABEL] == label])
            self.seen = (self.seen + 1) % max(1, len(self.sizes))

    def _judged_class(self, found: Array, objects: Array) -> Array:
        p = self.param.detection_evaluate_param
        if len(objects):
            found = found[best(found[:, SCORE])]
            overlaps = self._overlaps(found[:, 3:7], objects[:, 3:7])
            difficult = (objects[:, -1] != 0) & (not p.evaluate_difficult_gt)
            verdicts = judge(overlaps, difficult, p.overlap_threshold)
        else:
            verdicts = np.broadcast_to([False, True], (len(found), 2))
        return np.concatenate([found[:, :3], verdicts], axis=1)

    def _overlaps(self, found: Array, objects: Array) -> Array:
        if not self.sizes:
            return iou(found, objects)
        p, size = self.param.detection_evaluate_param, self.sizes[self.seen]
        resizing = p.resize_param if p.HasField("resize_param") else None
        a, b = (in_pixels(boxes, resizing, size.height, size.width) for boxes in (found, objects))
        return iou(a, b, extra=1)

    def meter(self, top_index: int) -> Any:
        return MeanAveragePrecision()

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0
