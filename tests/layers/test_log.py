"""Log."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.layers.activation import SHAPES, check, normal
from tests.support import ENGINES, Built


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("base, scale, shift", [(-1, 1, 0), (2, 1, 0), (10, 1.5, 2), (0.5, 0.1, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, base, scale, shift, engine):
    b = np.e if base == -1 else base
    fields = f'type: "Log" log_param {{ base: {base} scale: {scale} shift: {shift} }}'

    def value(x):
        return np.log(shift + scale * x) / np.log(b)

    def slope(x):
        return scale / ((shift + scale * x) * np.log(b))

    check(fields, np.abs(normal(shape)) + 0.1, value, slope, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_outside_the_domain_in_silence(engine):
    (y,) = Built('type: "Log"', [0, -1, 1e4], engine=engine).forward()
    assert y[0] == -np.inf and np.isnan(y[1]) and abs(y[2] - np.log(1e4)) < 1e-5


@pytest.mark.parametrize("base", [0, 1, -2])
def test_refused(base):
    message = f"log_param.base must be positive and not 1, or -1 for e; got {base}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(f'type: "Log" log_param {{ base: {base} }}', np.ones(3))
