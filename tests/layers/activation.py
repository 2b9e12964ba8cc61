"""What the tests of elementwise layers share: values and gradients against a formula in double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support import Built, assert_close

SHAPES = [(2, 3, 4, 5), (7,), (), (0, 3, 2, 2), (3, 20000)]
EXTREMES = np.array([-1e4, -100, -50, -20, -1, -1e-3, 0, 1e-3, 1, 20, 50, 100, 1e4], "f4")


def check(fields: str, x, y: Callable, slope: Callable, engine: str, in_place: bool = False) -> Built:
    """The layer's output is y(x), its gradient dy * slope(x)."""
    x = np.asarray(x, np.float32)
    dy = np.random.default_rng(5).standard_normal(x.shape).astype("f4")
    built = Built(fields, x, engine=engine)
    if in_place:
        built.top = built.bottom
    else:
        built.bottom[0].diff[...] = 7  # overwritten, not added to
    exact = x.astype(float)
    assert_close(built.forward()[0], y(exact))
    assert_close(built.backward(dy)[0], dy * slope(exact))
    return built


def normal(shape, scale: float = 2) -> np.ndarray:
    return np.asarray(scale * np.random.default_rng(1).standard_normal(shape), np.float32)
