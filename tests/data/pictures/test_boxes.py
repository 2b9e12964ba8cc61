"""Box arithmetic against areas that are counted, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.data.pictures import boxes

RANDOM = np.random.default_rng(4)
LOW = RANDOM.integers(0, 12, (9, 2))
WHOLE = np.concatenate([LOW, LOW + RANDOM.integers(0, 8, (9, 2))], axis=1).astype(np.float32)
"""Boxes whose edges are whole numbers, some without area."""


def cells(box, extra: int = 0) -> np.ndarray:
    """The unit squares that a box covers; with `extra` its last edges are pixels, too."""
    grid = np.zeros((30, 30), bool)
    x1, y1, x2, y2 = box.astype(int)
    grid[y1 : y2 + extra, x1 : x2 + extra] = True
    return grid


@pytest.mark.parametrize("extra", [0, 1])
def test_areas_and_overlaps(extra):
    grids = [cells(box, extra) for box in WHOLE]
    assert boxes.area(WHOLE, extra).tolist() == [grid.sum() for grid in grids]
    common = [[(a & b).sum() for b in grids] for a in grids]
    assert boxes.intersection(WHOLE, WHOLE, extra).tolist() == common
    union = [[max(1, (a | b).sum()) for b in grids] for a in grids]
    assert np.allclose(boxes.iou(WHOLE, WHOLE, extra), np.array(common) / union)


def test_coverage():
    part = np.array([[0, 0, 2, 4]], np.float32)
    whole = np.array([[1, 1, 9, 9], [5, 5, 6, 6], [0, 0, 2, 4]], np.float32)
    assert boxes.coverage(part, whole).tolist() == [[3 / 8, 0, 1]]
    assert boxes.coverage(whole[:1], part).tolist() == [[np.float32(3 / 64)]]


def test_a_box_with_exchanged_edges_has_no_area():
    turned = np.array([[0.5, 0, 0.2, 1]], np.float32)
    assert boxes.area(turned) == 0
    assert boxes.iou(turned, boxes.UNIT[None]) == 0


def test_a_box_within_another():
    outer = np.array([0.2, 0.4, 0.6, 0.6], np.float32)
    inner = np.array([[0.5, 0, 1, 0.5]], np.float32)
    located = boxes.locate(inner, outer)
    assert np.allclose(located, [[0.4, 0.4, 0.6, 0.5]])
    assert np.allclose(boxes.project(located, outer), inner)


def test_clip():
    box = np.array([[-1, 2, 30, 40]], np.float32)
    assert boxes.clip(box, height=20, width=10).tolist() == [[0, 2, 10, 20]]
    assert boxes.clip(box).tolist() == [[0, 1, 1, 1]]
