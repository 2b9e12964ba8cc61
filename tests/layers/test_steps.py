"""Reverse, SelectStep and LastStep against loops."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built

T, N = 4, 3


def make(shape=(T, N, 2)):
    return np.random.default_rng(1).standard_normal(shape).astype("f4")


def turned(array, axis):
    return np.ascontiguousarray(array if axis == 0 else np.swapaxes(array, 0, 1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(T, N, 2), (2, 3, 4, 5), (2, 3)])
def test_reverse(shape, axis, engine):
    x = make(shape)
    built = Built(f'type: "Reverse" reverse_param {{ axis: {axis} }}', x, engine=engine)
    np.testing.assert_array_equal(built.forward()[0], np.flip(x, axis))
    np.testing.assert_array_equal(built.backward(x)[0], np.flip(x, axis))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("more", [(), (2,), (2, 3)])
def test_reverse_within_lengths(more, axis, engine):
    x, lengths = make((T, N, *more)), [3, 0, 4]
    expected = x.copy()
    for n, length in enumerate(lengths):
        expected[:length, n] = x[:length, n][::-1]
    built = Built(f'type: "Reverse" reverse_param {{ axis: {axis} }}', turned(x, axis), lengths, engine=engine)
    np.testing.assert_array_equal(turned(built.forward()[0], axis), expected)
    (dx, _) = built.backward(turned(x, axis), propagate_down=[True, False])
    np.testing.assert_array_equal(turned(dx, axis), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("more", [(), (2,), (2, 3)])
def test_select_step(more, axis, engine):
    x = make((T, N, *more))
    for step in (0, 2, -1, -4):
        fields = f"select_step_param {{ axis: {axis} step: {step} }}"
        built = Built(f'type: "SelectStep" {fields}', turned(x, axis), engine=engine)
        np.testing.assert_array_equal(built.forward()[0], x[step])
    steps = [2, 0, 3]
    built = Built(f'type: "SelectStep" select_step_param {{ axis: {axis} }}', turned(x, axis), steps, engine=engine)
    np.testing.assert_array_equal(built.forward()[0], x[steps, np.arange(N)])
    dy, expected = make((N, *more)), np.zeros_like(x)
    expected[steps, np.arange(N)] = dy
    np.testing.assert_array_equal(turned(built.backward(dy, propagate_down=[True, False])[0], axis), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
def test_last_step(axis, engine):
    x = make()
    fields = f'type: "LastStep" select_step_param {{ axis: {axis} }}'
    np.testing.assert_array_equal(Built(fields, turned(x, axis), engine=engine).forward()[0], x[-1])
    expected = np.stack([x[2, 0], 0 * x[0, 1], x[3, 2]])
    left = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 1]])  # (T, N), any steps may be there
    for mask in ([3, 0, 4], turned(left, axis)):
        built = Built(fields, turned(x, axis), mask, engine=engine)
        np.testing.assert_array_equal(built.forward()[0], expected)
        dy = make((N, 2))
        dx = turned(built.backward(dy, propagate_down=[True, False])[0], axis)
        np.testing.assert_array_equal(dx[2, 0], dy[0])
        np.testing.assert_array_equal(dx[3, 2], dy[2])
        assert np.count_nonzero(dx) == 4


@pytest.mark.parametrize(
    "kind, shapes, fields, error, message",
    [
        ("Reverse", [(T, N), (T,)], "", ShapeError, '"m" must be lengths (N,) = (3,) or markers (T, N) = (4, 3)'),
        ("Reverse", [(T, N, 2), (T,)], "reverse_param { axis: 2 }", ConfigError, "reversed along axis 2"),
        ("SelectStep", [(T,)], "", ShapeError, '"x" must have time and items on its first two axes, it is (4,)'),
        ("SelectStep", [(T, N)], "select_step_param { step: 4 }", ConfigError, "step 4 is none of the 4 steps"),
        ("SelectStep", [(T, N), (T,)], "", ShapeError, 'the steps "m" must be (N,) = (3,), are (4,)'),
        ("LastStep", [(T, N)], "select_step_param { axis: 2 }", ConfigError, "axis must be 0 or 1, it is 2"),
        (
            "LastStep",
            [(T, N)],
            "select_step_param { step: 2 }",
            ConfigError,
            "LastStep takes no select_step_param.step",
        ),
        ("LastStep", [(0, N)], "", ShapeError, '"x" (0, 3) has no steps'),
    ],
)
def test_wrong(kind, shapes, fields, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Built(f'type: "{kind}" bottom: "x" bottom: "m" {fields}', *map(np.zeros, shapes))


@pytest.mark.parametrize(
    "kind, given, message",
    [
        ("Reverse", [1, 5, 2], 'the length 5 at (1,) of "m" is none'),
        ("LastStep", [1, 2, -1], 'the length -1 at (2,) of "m" is none'),
        ("LastStep", np.full((T, N), 2), 'the marker 2 at (0, 0) of "m" is neither 0 nor 1'),
        ("SelectStep", [0, 4, 1], 'step 4 at (1,) of "m" is outside 0 .. 3'),
    ],
)
def test_wrong_values(kind, given, message):
    built = Built(f'type: "{kind}" bottom: "x" bottom: "m"', make(), given)
    with pytest.raises(DataError, match=re.escape(message)):
        built.forward()
