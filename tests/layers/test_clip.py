"""Clip."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES

BOUNDS = [-2.5, -0.5, 0, 0.75, 3]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("low, high", [(-0.5, 0.75), (0.75, 3), (-2.5, -2.5), (0.75, -0.5)])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES, BOUNDS])
def test_values(x, low, high, engine):
    # The gradient passes at both bounds; with the bounds the wrong way round all is `low`, as in Caffe.
    def value(x):
        return np.maximum(low, np.minimum(x, high))

    fields = f'type: "Clip" clip_param {{ min: {low} max: {high} }}'
    check(fields, x, value, lambda x: np.float32((low <= x) & (x <= high)), engine)
