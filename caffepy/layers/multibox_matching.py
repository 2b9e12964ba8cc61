"""Which priors belong to which objects, for MultiBoxLoss. On the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.data.pictures.boxes import Array, iou
from caffepy.layers.box_matching import match
from caffepy.layers.boxes import decode
from caffepy.proto.caffe_pb2 import MultiBoxLossParameter

NONE, IGNORED = -1, -2
"""In place of the number of an object: none, and a box that reaches beyond the picture and does not count."""


def decoding(p: MultiBoxLossParameter, variances: Array) -> Array:
    """What predictions are multiplied by: 1 where they contain the variances."""
    return np.ones_like(variances) if p.encode_variance_in_target else variances


class Objects(NamedTuple):
    """All objects of a batch: number of the image, class, box."""

    images: Array
    labels: Array
    boxes: Array

    @classmethod
    def read(cls, rows: Array, difficult: bool) -> Objects:
        """From rows (G, 8) as AnnotatedData makes them; image -1 is no object, `difficult` ones may be left out."""
        rows = rows.reshape(-1, 8)
        rows = rows[(rows[:, 0] != -1) & (difficult | (rows[:, 7] == 0))]
        return cls(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 3:7])

    def of(self, image: int, label: int | None = None) -> Array:
        """The numbers of the objects in an image, of one class or of all."""
        return np.flatnonzero((self.images == image) & (True if label is None else self.labels == label))


class Matches(NamedTuple):
    """For image, class (one where locations are shared) and prior: the object's number, and the overlap. (N, L, P)."""

    found: Array
    overlap: Array


def find_matches(p: MultiBoxLossParameter, objects: Objects, loc: Array, priors: Array, variances: Array) -> Matches:
    """Match priors, or the boxes predicted by the offsets loc (N, P, L, 4), with the objects of each image."""
    n, count, classes, _ = loc.shape
    index, overlap = np.full((n, classes, count), NONE), np.zeros((n, classes, count), np.float32)
    for i in range(n):
        if p.use_prior_for_matching:
            things = objects.of(i)
            found, overlap[i] = _match(p, priors, objects.boxes[things], things)
            alike = classes == 1 or objects.labels[found] == np.arange(classes)[:, None]
            index[i] = np.where((found < 0) | alike, found, NONE)
            if classes > 1:
                index[i, p.background_label_id] = NONE
            continue
        boxes = decode(p.code_type, loc[i], priors[:, None], decoding(p, variances)[:, None])
        for c in range(classes):
            if classes > 1 and c == p.background_label_id:
                continue
            things = objects.of(i, None if classes == 1 else c)
            index[i, c], overlap[i, c] = _match(p, boxes[:, c], objects.boxes[things], things)
    return Matches(index, overlap)


def _match(p: MultiBoxLossParameter, boxes: Array, targets: Array, numbers: Array) -> tuple[Array, Array]:
    """`match` of boxes (P, 4) with objects, by the objects' numbers."""
    overlaps = iou(targets, boxes).T
    outside: Array = np.zeros(len(boxes), bool)
    if p.ignore_cross_boundary_bbox and len(numbers):
        outside = np.any((boxes < 0) | (boxes > 1), axis=1)
        overlaps[outside] = 0
    per_prediction = p.match_type == MultiBoxLossParameter.PER_PREDICTION
    index, overlap = match(overlaps, p.overlap_threshold if per_prediction else None)
    index = np.append(numbers, NONE)[index]
    return np.where(outside, IGNORED, index), overlap
