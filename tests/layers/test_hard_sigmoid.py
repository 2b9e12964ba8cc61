"""HardSigmoid."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
@pytest.mark.parametrize("alpha, beta, fields", [(0.2, 0.5, ""), (1 / 6, 0.25, "alpha: 0.16666667 beta: 0.25")])
def test_values(alpha, beta, fields, x, in_place, engine):
    low, high = -beta / alpha, (1 - beta) / alpha

    def y(x):
        return np.where(x < low, 0, np.where(x > high, 1, alpha * x + beta))

    def slope(x):
        return np.where((x > low) & (x < high), alpha, 0)

    check(f'type: "HardSigmoid" hard_sigmoid_param {{ {fields} }}', x, y, slope, engine, in_place)
