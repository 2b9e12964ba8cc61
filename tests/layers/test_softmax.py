"""Softmax."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.support import ENGINES, Built, assert_close


def reference(x, axis):
    e = np.exp(x.astype(float))
    return e / e.sum(axis=axis, keepdims=True)


def build(axis, x, engine="numpy"):
    return Built(f'type: "Softmax" softmax_param {{ axis: {axis} }}', x, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "shape, axis",
    [
        ((4, 5), 1),
        ((2, 3, 4, 5), 1),
        ((2, 3, 4, 5), -1),
        ((2, 3, 4), 0),
        ((6,), 0),
        ((0, 3), 1),
        ((3, 1), 1),
        ((2, 0, 3), 1),
    ],
)
def test_values(shape, axis, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    built = build(axis, x, engine)
    if in_place:
        built.top = built.bottom
    y = reference(x, axis)
    assert_close(built.forward()[0], y)
    assert_close(built.backward(dy)[0], y * dy - y * (y * dy).sum(axis=axis, keepdims=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_stable(engine):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4]], "f4")
    y = build(1, x, engine).forward()[0]
    assert_close(y, [[1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0], [1 / 3] * 3])


def test_axis_out_of_range():
    message = "axis 1 is out of range for a bottom with 1 axes (-1 to 0)"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build(1, np.zeros(3))
