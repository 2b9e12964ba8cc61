"""Sigmoid."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES, Built


def sigmoid(x):
    return 0.5 * np.tanh(x / 2) + 0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES, normal((4, 5)) - 12])
def test_values(x, in_place, engine):
    check('type: "Sigmoid"', x, sigmoid, lambda x: sigmoid(x) * (1 - np.float32(sigmoid(x))), engine, in_place)


@pytest.mark.parametrize("engine", ENGINES)
def test_saturation_rounds_as_a_double(engine):
    x = np.array([16.7, 17, 17.2, 17.5, 30], "f4")
    built = Built('type: "Sigmoid"', x, engine=engine)
    y = np.float32(sigmoid(x.astype(float)))
    assert built.forward()[0].tolist() == y.tolist() and y[2] < 1 and y[3] == 1
    assert built.backward(np.ones(5, "f4"))[0].tolist() == (y * (1 - y)).tolist()
