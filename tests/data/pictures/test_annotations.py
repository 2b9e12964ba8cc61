"""Objects in parts of pictures, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.data.pictures.annotations import Annotations, label_rows, mirrored, seen_in
from caffepy.proto.caffe_pb2 import EmitConstraint

# class, number, box, difficult
OBJECTS = Annotations(
    np.array([[3, 0, 0.2, 0.2, 0.4, 0.4, 0], [3, 1, 0.4, 0.4, 0.8, 0.9, 1], [5, 0, 0.6, 0, 0.7, 0.1, 0]], np.float32)
)
PART = np.array([0.3, 0, 0.7, 0.5], np.float32)


@pytest.mark.parametrize(
    "constraint, numbers",
    [
        (None, [0, 1, 2]),
        (EmitConstraint(), [0, 2]),  # centres: (0.3, 0.3), (0.6, 0.65), (0.65, 0.05)
        (EmitConstraint(emit_type="MIN_OVERLAP", emit_overlap=0.1), [0, 1, 2]),
        (EmitConstraint(emit_type="MIN_OVERLAP", emit_overlap=0.4), [0, 2]),
        (EmitConstraint(emit_type="MIN_OVERLAP", emit_overlap=0.6), [2]),
    ],
)
def test_what_a_part_shows(constraint, numbers):
    seen = seen_in(PART, OBJECTS, constraint)
    boxes = np.array([[0, 0.4, 0.25, 0.8], [0.25, 0.8, 1, 1], [0.75, 0, 1, 0.2]])[numbers]
    assert np.allclose(seen.boxes, boxes, atol=1e-6)
    assert np.array_equal(seen.rows[:, [0, 1, 6]], OBJECTS.rows[numbers][:, [0, 1, 6]])


def test_an_object_that_only_touches_the_part_is_not_seen():
    assert len(seen_in(np.array([0.4, 0, 0.6, 0.4], np.float32), OBJECTS, None).rows) == 0


def test_a_larger_canvas_shows_all():
    canvas = np.array([-1, 0, 1, 2], np.float32)
    seen = seen_in(canvas, OBJECTS, EmitConstraint())
    assert np.allclose(seen.boxes[0], [0.6, 0.1, 0.7, 0.2])


def test_mirrored():
    assert np.allclose(mirrored(OBJECTS).boxes[1], [0.2, 0.4, 0.6, 0.9])
    assert np.allclose(mirrored(mirrored(OBJECTS)).rows, OBJECTS.rows)


def test_rows_of_a_batch():
    rows = label_rows([Annotations.none(), OBJECTS])
    assert rows.shape == (1, 1, 3, 8) and rows.dtype == np.float32
    assert rows[0, 0, :, 0].tolist() == [1, 1, 1]
    assert np.array_equal(rows[0, 0, :, 1:], OBJECTS.rows)
    assert label_rows([Annotations.none()]).tolist() == [[[[-1] * 8]]]
