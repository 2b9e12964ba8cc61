"""Threshold."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.layers.activation import SHAPES, normal
from tests.support import ENGINES, Built


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("limit", [0, 0.5, -1])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), np.array([-1, 0, 0.5, np.inf])])
def test_values(x, limit, engine):
    (y,) = Built(f'type: "Threshold" threshold_param {{ threshold: {limit} }}', x, engine=engine).forward()
    assert y.dtype == np.float32 and (y == np.where(x > limit, 1, 0)).all()  # strictly larger


def test_no_gradient():
    built = Built('type: "Threshold"', np.ones(3))
    assert built.backward(np.ones(3, "f4"), propagate_down=[False])[0].tolist() == [0, 0, 0]
    message = "^Threshold has no gradient\n  Set propagate_down: false or lr_mult: 0 before it.$"
    with pytest.raises(ConfigError, match=message):
        built.backward(np.ones(3, "f4"))
