"""Eltwise."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close

SHAPES = [(2, 3, 4, 5), (4, 3), (), (0, 3, 2, 2), (3, 20000)]


def build(fields, bottoms, engine="numpy"):
    names = " ".join(f'bottom: "b{i}"' for i in range(len(bottoms)))
    return Built(f'type: "Eltwise" {names} eltwise_param {{ {fields} }}', *bottoms, engine=engine)


def inputs(number, shape):
    values = np.random.default_rng(1).standard_normal((number + 1, *shape)).astype("f4")
    return list(values[:-1]), values[-1]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("coeffs", [[], [1, -1], [0.5, -2, 1]])
@pytest.mark.parametrize("shape", SHAPES)
def test_sum(shape, coeffs, engine):
    xs, dy = inputs(len(coeffs) or 4, shape)
    built = build(" ".join(f"coeff: {c}" for c in coeffs), xs, engine)
    factors = coeffs or [1] * len(xs)
    assert_close(built.forward()[0], sum(c * x.astype(float) for c, x in zip(factors, xs)))
    for c, dx in zip(factors, built.backward(dy)):
        assert_close(dx, c * dy)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_product(shape, number, stable, engine):
    xs, dy = inputs(number, shape)
    xs = [np.sign(x) * (np.abs(x) + 0.1) for x in xs]
    built = build(f"operation: PROD stable_prod_grad: {str(stable).lower()}", xs, engine)
    assert_close(built.forward()[0], np.prod(np.array(xs, float), axis=0))
    for i, dx in enumerate(built.backward(dy)):
        assert_close(dx, dy * np.prod(np.array(xs[:i] + xs[i + 1 :], float), axis=0))


@pytest.mark.parametrize("engine", ENGINES)
def test_product_of_zeros(engine):
    for stable, expected in (("true", [3, 0]), ("false", [np.nan, 0])):
        built = build(f"operation: PROD stable_prod_grad: {stable}", [[0, 2], [3, 0]], engine)
        built.forward()
        assert_close(built.backward(np.ones(2, "f4"))[0], expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_maximum(shape, number, engine):
    xs, dy = inputs(number, shape)
    built = build("operation: MAX coeff: 1" + " coeff: 5" * (number - 1), xs, engine)  # coefficients are ignored
    assert_close(built.forward()[0], np.max(xs, axis=0), 0)
    winner = np.argmax(xs, axis=0)
    for i, dx in enumerate(built.backward(dy)):
        assert_close(dx, np.where(winner == i, dy, 0), 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_ties(engine):
    # Of the first two the second wins, a later one only if it is strictly larger.
    xs = np.array([[1, 1, 0, 2], [1, 0, 0, 1], [1, 1, 3, 2], [0, 1, 3, 2]], "f4")
    built = build("operation: MAX", xs, engine)
    built.forward()
    expected = [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert [dx.tolist() for dx in built.backward(np.ones(4, "f4"))] == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_is_wanted(engine):
    built = build("operation: PROD", [[2, 3], [4, 5]], engine)
    built.forward()
    first, second = built.backward(np.ones(2, "f4"), propagate_down=[False, True])
    assert not first.any() and second.tolist() == [2, 3]


@pytest.mark.parametrize(
    "fields, shapes, error, message",
    [
        (
            "",
            [(3,)],
            ConfigError,
            "Eltwise takes at least 2 bottom blob(s), 1 given\n"
            '  Each line bottom: "name" of the layer gives one: add 1.',
        ),
        ("", [(3,), (4,)], ShapeError, 'bottoms must have one shape, but "b0" is (3,) and "b1" is (4,)'),
        ("coeff: 1", [(3,), (3,)], ConfigError, "1 coeff for 2 bottoms; give one for each, or none"),
        (
            "operation: PROD coeff: 1 coeff: 2",
            [(3,), (3,)],
            ConfigError,
            "PROD takes no coeff\n  Remove coeff, or use SUM.",
        ),
    ],
)
def test_refused(fields, shapes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        build(fields, [np.ones(s) for s in shapes])
