"""BNLL."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES, normal((4, 5)) - 12])
def test_values(x, engine):
    check('type: "BNLL"', x, lambda x: np.logaddexp(0, x), lambda x: 1 / (1 + np.exp(-np.maximum(x, -700))), engine)
