"""GELU, approximate and exact."""

from __future__ import annotations

from math import erf, pi

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES

INPUTS = [*map(normal, SHAPES), EXTREMES]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", INPUTS)
def test_approximate(x, in_place, engine):
    def y(x):
        return 0.5 * x * (1 + np.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x**3)))

    def slope(x):
        step = 1e-5
        return (y(x + step) - y(x - step)) / (2 * step)

    check('type: "GELU"', np.clip(x, -50, 50), y, slope, engine, in_place)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", INPUTS)
def test_exact(x, in_place, engine):
    def below(x):
        return 0.5 * (1 + np.vectorize(erf, otypes=[float])(x / 2**0.5))

    def slope(x):
        return below(x) + x * np.exp(-x * x / 2) / (2 * pi) ** 0.5

    fields = 'type: "GELU" gelu_param { enable_bert_version: false }'
    check(fields, x, lambda x: x * below(x), slope, engine, in_place)
