"""Input: the shapes of its tops."""

from __future__ import annotations

import re

import pytest

from caffepy.errors import ConfigError
from tests.support import ENGINES, Built


def build(shapes, tops, engine="numpy"):
    fields = " ".join("shape { " + " ".join(f"dim: {n}" for n in shape) + " }" for shape in shapes)
    return Built(f'type: "Input" input_param {{ {fields} }}', engine=engine, tops=tops)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "shapes, tops, expected",
    [
        ([(1, 3, 4, 5)], 1, [(1, 3, 4, 5)]),
        ([(2, 3)], 2, [(2, 3), (2, 3)]),
        ([(2, 3), (0, 4), ()], 3, [(2, 3), (0, 4), ()]),
        ([], 2, [(), ()]),
    ],
)
def test_shapes(shapes, tops, expected, engine):
    assert [y.shape for y in build(shapes, tops, engine).forward()] == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_the_caller_shapes_and_fills_the_tops(engine):
    built = build([(1, 2)], 1, engine)
    built.top[0].reshape(3, 2)
    built.top[0].data[...] = 4
    (y,) = built.forward()
    assert y.shape == (3, 2)
    assert (y == 4).all()


@pytest.mark.parametrize(
    "shapes, tops, message",
    [
        ([(1,), (2,)], 3, "2 input_param.shape given for 3 top(s); give one, or one for each"),
        ([(2, -1)], 1, "input_param.shape has a negative dim: [2, -1]"),
    ],
)
def test_refused(shapes, tops, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build(shapes, tops)
