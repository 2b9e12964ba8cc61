"""Differences of functions: gradients, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.net.gradient import differences, numerical_gradient


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_of_a_polynomial(shape, order):
    x = np.array(np.random.default_rng(0).normal(size=shape), order=order)
    kept = x.copy()
    np.testing.assert_allclose(numerical_gradient(lambda: float((x**3).sum()), x, 1e-4), 3 * x**2, atol=1e-6)
    np.testing.assert_array_equal(x, kept)


def test_one_side_and_the_other():
    x = np.array([0.0, 0.005, 1.0, -1.0])
    found = differences(lambda: float(np.abs(x).sum()), x, step=0.01)
    np.testing.assert_allclose(found.right, [1, 1, 1, -1])
    np.testing.assert_allclose(found.left, [-1, 0, 1, -1], atol=1e-12)
    np.testing.assert_allclose(found.central, [0, 0.5, 1, -1], atol=1e-12)
    assert found.kinks(0.1).tolist() == [True, True, False, False]
    assert found.kinks(1.5).tolist() == [True, False, False, False]


def test_of_some_entries():
    x = np.arange(6.0).reshape(2, 3)
    found = differences(lambda: float((x * x).sum()), x, at=[(1, 2), (0, 1)])
    np.testing.assert_allclose(found.central, [10, 2])
