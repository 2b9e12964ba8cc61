"""Accuracy against a loop over positions."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close


def reference(x, labels, axis, top_k, ignore):
    moved = np.moveaxis(x, axis, -1)
    right, seen = np.zeros((2, x.shape[axis]))
    labels = np.trunc(labels).astype(int).reshape(moved.shape[:-1])
    for at in np.ndindex(*labels.shape):
        if labels[at] != ignore:
            scores, label = moved[at], labels[at]
            rivals = sum(score >= scores[label] for i, score in enumerate(scores) if i != label)
            seen[label] += 1
            right[label] += rivals < top_k
    return right.sum() / max(seen.sum(), 1), right / np.maximum(seen, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ignore", [None, 1, -1])
@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("shape, axis", [((40, 3), 1), ((4, 5, 3, 6), 1), ((6, 2, 4), -1), ((3, 7), 0), ((0, 3), 1)])
def test_values(shape, axis, top_k, ignore, engine):
    random = np.random.default_rng(1)
    x = random.integers(0, 4, shape).astype("f4")  # with ties
    positions = tuple(np.delete(shape, axis))
    labels = random.integers(0, shape[axis], positions) + 0.4
    if ignore is not None:
        labels[random.random(positions) < 0.3] = ignore
    extra = "" if ignore is None else f"ignore_label: {ignore}"
    text = f'type: "Accuracy" accuracy_param {{ top_k: {top_k} axis: {axis} {extra} }}'
    built = Built(text, x, labels, engine=engine, tops=2)
    for ours, expected in zip(built.forward(), reference(x, labels, axis, top_k, ignore)):
        assert_close(ours, expected, 1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_left(engine):
    text = 'type: "Accuracy" accuracy_param { ignore_label: 1 }'
    total, classes = Built(text, np.zeros((3, 2)), np.ones(3), engine=engine, tops=2).forward()
    assert total == 0
    assert classes.tolist() == [0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_label_out_of_range(engine):
    built = Built(
        'type: "Accuracy" bottom: "x" bottom: "label"',
        np.zeros((4, 3)),
        np.array([0, 1, 3, 2]),
        engine=engine,
    )
    message = (
        'label 3 at position (2,) of "label" is outside 0 .. 2\n'
        "  The net distinguishes 3 classes: correct the labels or num_output."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        built.forward()


@pytest.mark.parametrize(
    "fields, labels, error, message",
    [
        ("top_k: 4", (2, 4), ConfigError, "top_k must lie in 1 .. 3, the number of classes, got 4"),
        ("top_k: 0", (2, 4), ConfigError, "top_k must lie in 1 .. 3, the number of classes, got 0"),
        ("axis: -4", (2, 4), ConfigError, "axis -4 is out of range for a bottom with 3 axes (-3 to 2)"),
        (
            "",
            (2, 1),
            ShapeError,
            'the labels "label" have shape (2, 1), but "x" (2, 3, 4) with classes on axis 1 '
            "needs one label for each of 8 positions, (2, 4)",
        ),
    ],
)
def test_refused(fields, labels, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        text = f'type: "Accuracy" bottom: "x" bottom: "label" accuracy_param {{ {fields} }}'
        Built(text, np.zeros((2, 3, 4)), np.zeros(labels))


def test_no_gradient():
    built = Built('type: "Accuracy"', np.zeros((2, 3)), np.zeros(2))
    built.forward()
    with pytest.raises(ConfigError, match=r"^Accuracy has no gradient\n"):
        built.backward(np.float32(1))
    built.backward(np.float32(1), propagate_down=[False, False])
