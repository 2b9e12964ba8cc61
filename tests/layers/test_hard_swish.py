"""HardSwish."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, in_place, engine):
    def y(x):
        return np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6))

    def slope(x):
        return np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5))

    check('type: "HardSwish"', x, y, slope, engine, in_place)
