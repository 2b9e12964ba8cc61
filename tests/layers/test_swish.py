"""Swish."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("beta", [1, 1.7, -0.5])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, beta, in_place, engine):
    def gate(x):
        return 0.5 * np.tanh(beta * x / 2) + 0.5

    def slope(x):
        return gate(x) + beta * x * gate(x) * (1 - gate(x))

    check(f'type: "Swish" swish_param {{ beta: {beta} }}', x, lambda x: x * gate(x), slope, engine, in_place)
