"""ReLU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import ENGINES, Built, assert_close

SHAPES = [(2, 3, 4, 5), (7,), (), (0, 3, 2, 2), (3, 40000)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("slope", [0, 0.1, -0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, slope, engine):
    random = np.random.default_rng(1)
    x, dy = random.standard_normal((2, *shape)).astype("f4")
    built = Built(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', x, engine=engine)
    assert_close(built.forward()[0], np.maximum(x, 0) + slope * np.minimum(x, 0))
    assert_close(built.backward(dy)[0], dy * np.where(x > 0, 1, slope))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("slope", [0, 0.25])
def test_gradient_at_zero_is_the_slope(slope, engine):
    built = Built(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', np.zeros(2), engine=engine)
    built.forward()
    assert built.backward(np.array([1, 2], "f4"))[0].tolist() == [slope, 2 * slope]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("slope", [0, 0.1])
def test_in_place(slope, engine):
    x, dy = np.random.default_rng(2).standard_normal((2, 3, 2, 4, 5)).astype("f4")
    built = Built(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', x, engine=engine)
    built.top = built.bottom
    assert_close(built.forward()[0], np.where(x > 0, x, slope * x))
    assert_close(built.backward(dy)[0], np.where(x > 0, dy, slope * dy))


@pytest.mark.parametrize("engine", ENGINES)
def test_unwanted_gradient(engine):
    built = Built('type: "ReLU"', np.ones(3), engine=engine)
    built.forward()
    assert not built.backward(np.ones(3, "f4"), propagate_down=[False])[0].any()
