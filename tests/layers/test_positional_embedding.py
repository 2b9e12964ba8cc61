"""PositionalEmbedding against its formulas."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

T, N, C = 5, 3, 8


def build(fields, *shapes, engine="numpy", tops=1, **options):
    random = np.random.default_rng(1)
    made = [random.standard_normal(shape).astype("f4") for shape in shapes]
    text = f'type: "PositionalEmbedding" bottom: "x" positional_embedding_param {{ {fields} }}'
    return made, Built(text, *made, engine=engine, tops=tops, **options)


def turned(array, axis):
    return array if axis == 0 else np.swapaxes(array, 0, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_learned(axis, in_place, engine):
    fields = f"max_length: 7 axis: {axis} weight_filler {{ type: 'gaussian' std: 1 }}"
    shape = (T, N, C) if axis == 0 else (N, T, C)
    (x,), built = build(fields, shape, engine=engine, in_place=in_place)
    table = built.host(built.layer.blobs[0].data)
    assert table.shape == (7, C) and table.std() > 0.5
    (y,) = built.forward()
    for t in range(T):
        assert_close(turned(y, axis)[t], turned(x, axis)[t] + table[t])
    dy = np.random.default_rng(2).standard_normal(shape).astype("f4")
    (dx,) = built.backward(dy)
    np.testing.assert_array_equal(dx, dy)
    expected = np.zeros((7, C))
    expected[:T] = turned(dy, axis).sum(1)
    assert_close(built.host(built.layer.blobs[0].diff), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("depth", [7, 8])
def test_sinusoidal(depth, engine):
    (x,), built = build("mode: SINUSOIDAL base: 100", (T, N, depth), engine=engine)
    (y,) = built.forward()
    for t, n, i in np.ndindex(x.shape):
        angle = t / 100 ** (2 * (i // 2) / depth)
        assert y[t, n, i] == pytest.approx(x[t, n, i] + (np.cos if i % 2 else np.sin)(angle), abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary(interleaved, axis, engine):
    """As a product of complex numbers; and what a query and a key have in common depends on their distance alone."""
    fields = f"mode: ROTARY num_heads: 2 interleaved: {str(interleaved).lower()} axis: {axis}"
    shape = (T, N, C) if axis == 0 else (N, T, C)
    (q, k), built = build(fields, shape, shape, engine=engine, tops=2)
    for x, y in zip((q, k), built.forward()):
        x, y = (turned(a, axis).reshape(T, N, 2, C // 2).astype(float) for a in (x, y))
        real, imaginary = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(0, 2), slice(2, 4))
        factor = np.exp(1j * np.arange(T)[:, None, None, None] * 10000.0 ** (-np.arange(0, 4, 2) / 4))
        expected = (x[..., real] + 1j * x[..., imaginary]) * factor
        assert_close(y[..., real], expected.real)
        assert_close(y[..., imaginary], expected.imag)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", ["LEARNED max_length: 5", "SINUSOIDAL", "ROTARY"])
def test_step_by_step_as_all_at_once(mode, engine):
    (x,), built = build(f"mode: {mode} weight_filler {{ type: 'gaussian' }}", (T, N, C), engine=engine, phase=TEST)
    (whole,) = built.forward()
    built.layer.restart(T)
    for start, end in ((0, 2), (2, 3), (3, 5)):
        state = built.layer.state()
        built.layer.restart(T)
        built.layer.set_state(state)
        built.bottom[0].reshape(end - start, N, C)
        built.bottom[0].fill(x[start:end])
        assert_close(built.forward()[0], whole[start:end])
    if "LEARNED" in mode:
        with pytest.raises(ShapeError, match=re.escape('"x" has 7 steps, the table of positions 5')):
            built.forward()
    built.layer.restart(0)
    built.bottom[0].reshape(T, N, C)
    built.bottom[0].fill(x)
    for _ in range(2):  # whole sequences again
        assert_close(built.forward()[0], whole)


WRONG = [
    ("max_length: 4", [(T, N, C)], ShapeError, '"x" has 5 steps, the table of positions 4'),
    ("", [(T, N, C)], ConfigError, "positional_embedding_param.max_length must be at least 1"),
    ("mode: SINUSOIDAL axis: 2", [(T, N, C)], ConfigError, "positional_embedding_param.axis must be 0 or 1, it is 2"),
    ("mode: SINUSOIDAL", [(T, N)], ShapeError, '"x" must be (T, N, C), it is (5, 3)'),
    ("mode: ROTARY num_heads: 3", [(T, N, C)], ShapeError, "3 heads of 8 values cannot be cut into pairs"),
    ("mode: ROTARY num_heads: 0", [(T, N, C)], ConfigError, "positional_embedding_param.num_heads must be at least 1"),
    ("mode: SINUSOIDAL base: 0", [(T, N, C)], ConfigError, "positional_embedding_param.base must be above 0, it is 0"),
    (
        "max_length: 9",
        [(T, N, C), (T, N, C)],
        ConfigError,
        "PositionalEmbedding takes one bottom and one top, with mode: ROTARY as many tops as bottoms: 2 and 2 given",
    ),
]


@pytest.mark.parametrize("fields, shapes, error, message", WRONG)
def test_wrong(fields, shapes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build(fields, *shapes, tops=len(shapes))
