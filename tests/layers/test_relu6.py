"""ReLU6."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, in_place, engine):
    def slope(x):
        return np.where(np.abs(x - 3) < 3, 1.0, 0.0)

    check('type: "ReLU6"', 2 * x, lambda x: np.minimum(np.maximum(x, 0), 6), slope, engine, in_place)
