"""Power."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.activation import SHAPES, check, normal
from tests.support import ENGINES, Built

# power, scale, shift
POWERS = [(1, 1, 0), (1, -0.7, 1.3), (2, 0.8, 0.5), (2, 1, 0), (3, 0.6, 0), (0.37, 1.2, 3), (-1.5, 2, 1)]


def fields(power, scale, shift):
    return f'type: "Power" power_param {{ power: {power} scale: {scale} shift: {shift} }}'


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("power, scale, shift", POWERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, power, scale, shift, engine):
    x = normal(shape) if power in (1, 2, 3) else np.abs(normal(shape)) + 0.2

    def value(x):
        return (shift + scale * x) ** power

    def slope(x):
        return power * scale * (shift + scale * x) ** (power - 1)

    check(fields(power, scale, shift), x, value, slope, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "power, scale, shift, expected",
    [
        (0, 3, 2, 1),
        (0, 0, 0, 1),  # 0^0
        (0, 1, 0, 1),
        (2.5, 0, 1.7, 1.7**2.5),
        (0.5, 0, -2, np.nan),
        (-1, 0, 0, np.inf),
    ],
)
def test_constant(power, scale, shift, expected, engine):
    built = Built(fields(power, scale, shift), [-3, 0, 4], engine=engine)
    np.testing.assert_allclose(built.forward()[0], np.full(3, expected), rtol=1e-6)
    assert built.backward(np.ones(3, "f4"))[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_gradient_where_the_base_is_zero(engine):
    built = Built(fields(3, 1, 0), [0, 2], engine=engine)
    built.forward()
    assert built.backward(np.ones(2, "f4"))[0].tolist() == [0, 12]


@pytest.mark.parametrize("engine", ENGINES)
def test_outside_the_domain_in_silence(engine):
    (y,) = Built(fields(0.5, 1, 0), [-1, 4], engine=engine).forward()
    assert np.isnan(y[0]) and y[1] == 2
