"""AbsVal."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES, Built


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, engine):
    check('type: "AbsVal"', x, np.abs, np.sign, engine)  # the gradient at 0 is 0


def test_in_place_is_refused():
    built = Built('type: "AbsVal"', np.ones(3))
    with pytest.raises(ConfigError, match=r"^AbsVal cannot run in place\n  Give the top a name of its own\.$"):
        built.layer.set_up(built.bottom, built.bottom)
