"""Exp."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.layers.activation import SHAPES, check, normal
from tests.support import ENGINES, Built


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("base, scale, shift", [(-1, 1, 0), (2, 1, 0), (10, 0.4, -0.3), (0.5, -2, 1), (1, 3, 2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, base, scale, shift, in_place, engine):
    b = np.e if base == -1 else base
    fields = f'type: "Exp" exp_param {{ base: {base} scale: {scale} shift: {shift} }}'

    def value(x):
        return b ** (shift + scale * x)

    check(fields, normal(shape, 1), value, lambda x: value(x) * np.log(b) * scale, engine, in_place)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shift", [0, 1000])
def test_overflow_is_infinite_in_silence(shift, engine):
    built = Built(f'type: "Exp" exp_param {{ shift: {shift} }}', [-50, 1e4], engine=engine)
    assert built.forward()[0][1] == np.inf


@pytest.mark.parametrize("base", [0, -2])
def test_refused(base):
    message = f"exp_param.base must be positive, or -1 for e; got {base}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(f'type: "Exp" exp_param {{ base: {base} }}', np.ones(3))
