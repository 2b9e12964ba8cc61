"""TanH."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES, [10.5, -12, 40]])
def test_values(x, in_place, engine):
    # The gradient uses the rounded output: exactly 0 where that is 1 (numpy's is from 10 on, Caffe's from 9.01).
    check('type: "TanH"', x, np.tanh, lambda x: 1 - np.float32(np.tanh(x)) ** 2, engine, in_place)
