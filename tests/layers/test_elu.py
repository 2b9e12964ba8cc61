"""ELU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("alpha", [1, 0.3, 1.7])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, alpha, in_place, engine):
    def value(x):
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    def slope(x):  # alpha at 0
        return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))

    check(f'type: "ELU" elu_param {{ alpha: {alpha} }}', x, value, slope, engine, in_place)
