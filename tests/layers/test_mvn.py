"""MVN."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ShapeError
from tests.support import ENGINES, Built, assert_close

SHAPES = [(2, 3, 4, 5), (3, 1, 7, 2), (2, 3, 7), (4, 6), (5,), (0, 3, 2, 2), (2, 3, 0, 0)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("eps", [1e-9, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, eps, across, normalize, engine):
    random = np.random.default_rng(1)
    x = random.standard_normal(shape).astype("f4") + 3
    four = shape + (1,) * (4 - len(shape))
    dy = random.standard_normal(four).astype("f4")
    options = f"across_channels: {str(across).lower()} normalize_variance: {str(normalize).lower()} eps: {eps}"
    built = Built(f'type: "MVN" mvn_param {{ {options} }}', x, engine=engine)
    rows = (shape[0], -1) if across else (four[0] * four[1], -1)
    (y,) = built.forward()
    (dx,) = built.backward(dy)
    assert y.shape == four
    if not x.size:
        return
    values, d = (v.reshape(rows).astype(float) for v in (x, dy))
    expected = values - values.mean(axis=1, keepdims=True)
    gradient = d - d.mean(axis=1, keepdims=True)
    if normalize:
        deviation = values.std(axis=1, keepdims=True) + eps
        expected = expected / deviation
        gradient = (gradient - expected * (d * expected).mean(axis=1, keepdims=True)) / deviation
    if normalize and values.shape[1] == 1:  # one value: 0 / eps, whose gradient is all rounding
        assert not y.any()
        return
    assert_close(y, expected.reshape(four))
    assert_close(dx, gradient.reshape(shape), 2e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_large_values(engine):
    x = 1e4 + np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype("f4")
    exact = x.astype(float)
    expected = (exact - exact.mean(axis=(2, 3), keepdims=True)) / exact.std(axis=(2, 3), keepdims=True)
    assert_close(Built('type: "MVN"', x, engine=engine).forward()[0], expected, 1e-3)


def test_refused():
    with pytest.raises(ShapeError, match=r'^MVN takes up to four axes, "x" is \(1, 2, 3, 1, 2\)$'):
        Built('type: "MVN" bottom: "x"', np.ones((1, 2, 3, 1, 2)))
