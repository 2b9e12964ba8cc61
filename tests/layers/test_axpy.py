"""Axpy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ShapeError
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "factor, shape",
    [
        ((2, 3), (2, 3, 4, 5)),
        ((2, 3, 1, 1), (2, 3, 4, 5)),
        ((2, 3, 1), (2, 3, 6)),
        ((7, 4), (7, 4)),
        ((0, 3), (0, 3, 2, 2)),
    ],
)
def test_values(factor, shape, engine):
    random = np.random.default_rng(1)
    a, x, b, dy = (random.standard_normal(s).astype("f4") for s in (factor, shape, shape, shape))
    built = Built('type: "Axpy"', a, x, b, engine=engine)
    spread = a.reshape(*shape[:2], *[1] * len(shape[2:]))
    assert_close(built.forward()[0], spread * x + b)
    da, dx, db = built.backward(dy)
    assert_close(da, np.sum((dy * x).reshape(*shape[:2], -1), axis=2).reshape(factor) if x.size else a)
    assert_close(dx, spread * dy)
    assert_close(db, dy, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_unwanted_gradients(engine):
    built = Built('type: "Axpy"', *(np.ones(s) for s in ((2, 3), (2, 3, 2), (2, 3, 2))), engine=engine)
    built.forward()
    found = built.backward(np.ones((2, 3, 2), "f4"), propagate_down=[False, True, False])
    assert [d.any() for d in found] == [False, True, False]


@pytest.mark.parametrize(
    "shapes, message",
    [
        ([(2, 3), (2, 3, 4, 5), (2, 3, 5, 4)], '"x" (2, 3, 4, 5) and "b" (2, 3, 5, 4) must have one shape'),
        (
            [(2, 4), (2, 3, 4), (2, 3, 4)],
            'the factor "a" must be (N, C) or (N, C, 1, ...) for "x" (2, 3, 4), it is (2, 4)',
        ),
        (
            [(2, 3, 2), (2, 3, 4), (2, 3, 4)],
            'the factor "a" must be (N, C) or (N, C, 1, ...) for "x" (2, 3, 4), it is (2, 3, 2)',
        ),
        ([(2,), (2,), (2,)], 'the factor "a" must be (N, C) or (N, C, 1, ...) for "x" (2,), it is (2,)'),
    ],
)
def test_refused(shapes, message):
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built('type: "Axpy" bottom: "a" bottom: "x" bottom: "b"', *map(np.ones, shapes))
