"""Upsample, by a mask and without."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close

IMAGE = (2, 3, 4, 5)


def placed(x, mask, size):
    y = np.zeros((*x.shape[:2], *size), "f4")
    for n, c, i, j in np.ndindex(*x.shape):  # the last of a repeated position stays
        y[n, c].flat[int(mask[n, c, i, j])] = x[n, c, i, j]
    return y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(
    "fields, size",
    [
        ("", (8, 10)),
        ("scale: 3", (12, 15)),
        ("scale_h: 2 scale_w: 4", (8, 20)),
        ("pad_out_h: true", (7, 10)),
        ("scale: 2 pad_out_w: true pad_out_h: true", (7, 9)),
        ("scale: 2 upsample_h: 6 upsample_w: 11 pad_out_h: true", (6, 11)),
    ],
)
def test_by_mask(fields, size, repeated, engine):
    random = np.random.default_rng(1)
    x, count = random.standard_normal(IMAGE).astype("f4"), size[0] * size[1]
    places = np.stack([random.permutation(count)[:20] for _ in range(6)]).reshape(IMAGE)
    mask = random.integers(0, 7, IMAGE) if repeated else places
    built = Built(f'type: "Upsample" upsample_param {{ {fields} }}', x, mask, engine=engine)
    assert_close(built.forward()[0], placed(x, mask, size), 0)
    dy = random.standard_normal((2, 3, *size)).astype("f4")
    dx = built.backward(dy, propagate_down=[True, False])[0]
    assert_close(dx, np.take_along_axis(dy.reshape(2, 3, -1), mask.reshape(2, 3, -1), 2).reshape(IMAGE), 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_undoes_max_pooling(engine):
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 6)).astype("f4")
    pooled, mask = Built(
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', x, engine=engine, tops=2
    ).forward()
    y = Built('type: "Upsample"', pooled, mask, engine=engine).forward()[0]
    assert_close(y, np.where(np.isin(x, pooled), x, 0), 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fields, scale", [("", (2, 2)), ("scale: 1", (1, 1)), ("scale_h: 3 scale_w: 2", (3, 2))])
def test_each_value_repeated(fields, scale, engine):
    x = np.random.default_rng(1).standard_normal(IMAGE).astype("f4")
    built = Built(f'type: "Upsample" upsample_param {{ {fields} }}', x, engine=engine)
    block = np.ones(scale, "f4")
    assert_close(built.forward()[0], np.kron(x, block), 0)
    dy = np.random.default_rng(2).standard_normal(np.kron(x, block).shape).astype("f4")
    expected = dy.reshape(2, 3, 4, scale[0], 5, scale[1]).sum(axis=(3, 5))
    assert_close(built.backward(dy)[0], expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [80, -1])
def test_positions_outside(value, engine):
    mask = np.zeros(IMAGE)
    mask[1, 2, 3, 0] = value
    built = Built('type: "Upsample" bottom: "x" bottom: "m"', np.ones(IMAGE), mask, engine=engine)
    message = (
        f'position {value} at (1, 2, 3, 0) of the mask "m" is outside 0 .. 79, the top\'s plane of 8x10\n'
        "  The top must have the size of what the Pooling that made the mask had as its bottom."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        built.forward()


REFUSED = [
    ("upsample_h: 3", [IMAGE, IMAGE], ConfigError, "upsample_h and upsample_w must both be given"),
    ("scale_w: 3", [IMAGE, IMAGE], ConfigError, "scale_h and scale_w must both be given"),
    (
        "scale: 2 scale_w: 3 scale_h: 2", [IMAGE, IMAGE], ConfigError,
        "both scale and scale_h / scale_w are given\n  Keep one of the two.",
    ),
    ("scale: 0", [IMAGE, IMAGE], ConfigError, "the scale must be at least 1"),
    (
        "scale: 3 pad_out_h: true", [IMAGE, IMAGE], ConfigError,
        "pad_out_h and pad_out_w need a scale of 2\n  Set upsample_h and upsample_w.",
    ),
    (
        "pad_out_h: true", [IMAGE], ConfigError,
        "without a mask the size follows from the scale: leave out upsample and pad_out fields",
    ),
    ("", [(2, 3, 4)], ShapeError, 'Upsample needs a bottom (N, C, H, W), "x" is (2, 3, 4)'),
    (
        "", [IMAGE, (2, 3, 4, 4)], ShapeError,
        'the mask "m" (2, 3, 4, 4) must have the shape of "x", (2, 3, 4, 5)',
    ),
]  # fmt: skip


@pytest.mark.parametrize("fields, shapes, error, message", REFUSED)
def test_refused(fields, shapes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Built(f'type: "Upsample" bottom: "x" bottom: "m" upsample_param {{ {fields} }}', *map(np.ones, shapes))
