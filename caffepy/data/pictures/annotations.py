"""The objects in a picture, and what becomes of them when it is cut, expanded or mirrored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.data.pictures.boxes import Array, area, clip, coverage, project
from caffepy.proto.caffe_pb2 import EmitConstraint


class Annotations(NamedTuple):
    """Rows (K, 7): class, number, xmin, ymin, xmax, ymax as shares of the picture, difficult."""

    rows: Array

    @classmethod
    def none(cls) -> Annotations:
        return cls(np.zeros((0, 7), np.float32))

    @property
    def boxes(self) -> Array:
        return self.rows[:, 2:6]

    def at(self, boxes: Array) -> Annotations:
        """The same objects with other boxes."""
        return Annotations(np.concatenate([self.rows[:, :2], boxes, self.rows[:, 6:]], axis=1))


def seen_in(part: Array, objects: Annotations, constraint: EmitConstraint | None) -> Annotations:
    """The objects that a part of a picture has, or all that a larger canvas has, as shares of that box.

    Those that share some area with it, cut at its edges, and that meet the constraint, if there is one.
    """
    boxes = objects.boxes
    kept = (boxes[:, :2] < part[2:]).all(axis=1) & (boxes[:, 2:] > part[:2]).all(axis=1)
    if constraint is not None:
        kept &= _meets(constraint, part, boxes)
    inside = clip(project(boxes, part))
    return Annotations(objects.at(inside).rows[kept & (area(inside) > 0)])


def _meets(constraint: EmitConstraint, part: Array, boxes: Array) -> Array:
    if constraint.emit_type == EmitConstraint.MIN_OVERLAP:
        return coverage(boxes, part[None])[:, 0] > constraint.emit_overlap
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centre >= part[:2]) & (centre <= part[2:])).all(axis=1)


def mirrored(objects: Annotations) -> Annotations:
    """Left and right exchanged."""
    left, top, right, bottom = objects.boxes.T
    return objects.at(np.stack([1 - right, top, 1 - left, bottom], axis=1))


def label_rows(batch: list[Annotations]) -> Array:
    """AnnotatedData's second top (1, 1, G, 8): picture, class, number, box, difficult; all -1 where there is none."""
    rows = [np.concatenate([np.full((len(one.rows), 1), i), one.rows], axis=1) for i, one in enumerate(batch)]
    joined = np.concatenate(rows).astype(np.float32)
    return (joined if len(joined) else np.full((1, 8), -1, np.float32))[None, None]
