"""Mish."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, in_place, engine):
    def t(x):
        return np.tanh(np.logaddexp(0, x))

    def slope(x):
        return t(x) + x * (1 - t(x) ** 2) * (0.5 * np.tanh(x / 2) + 0.5)

    check('type: "Mish"', x, lambda x: x * t(x), slope, engine, in_place)
