"""Interp: against interpolation point by point."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close

SHAPE = (2, 3, 7, 9)
# fields, size of the top for SHAPE, and what of the bottom is seen
CASES = [
    ("height: 5 width: 20", (5, 20), (0, 0)),
    ("height: 1 width: 1", (1, 1), (0, 0)),
    ("height: 7 width: 9", (7, 9), (0, 0)),
    ("zoom_factor: 3", (19, 25), (0, 0)),
    ("shrink_factor: 2", (4, 5), (0, 0)),
    ("shrink_factor: 3", (3, 3), (0, 0)),
    ("shrink_factor: 2 zoom_factor: 2", (7, 9), (0, 0)),
    ("zoom_factor: 2 height: 3 width: 3", (13, 17), (0, 0)),  # zoom alone beats the size
    ("shrink_factor: 2 height: 3 width: 3", (4, 5), (0, 0)),
    ("shrink_factor: 2 zoom_factor: 2 height: 3 width: 3", (3, 3), (0, 0)),  # which beats both together
    ("height: 8 width: 4 pad_beg: -1", (8, 4), (1, 0)),
    ("zoom_factor: 2 pad_beg: -1 pad_end: -2", (7, 11), (1, 2)),
    ("height: 4 width: 4 pad_end: -6", (4, 4), (0, 6)),
]


def interpolated(x, size):
    (height, width), y = x.shape[2:], np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        at = [k * (n - 1) / (m - 1) if m > 1 else 0.0 for k, n, m in zip((i, j), (height, width), size)]
        (top, down), (left, right) = (divmod(a, 1) for a in at)
        for di, dj in np.ndindex(2, 2):
            share = (down if di else 1 - down) * (right if dj else 1 - right)
            if share:
                y[:, :, i, j] += share * x[:, :, int(top) + di, int(left) + dj]
    return y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fields, size, cut", CASES)
def test_values(fields, size, cut, engine):
    x = np.random.default_rng(1).standard_normal(SHAPE).astype("f4")
    built = Built(f'type: "Interp" interp_param {{ {fields} }}', x, engine=engine)
    inside = np.s_[:, :, cut[0] : 7 - cut[1], cut[0] : 9 - cut[1]]
    y = built.forward()[0]
    assert_close(y, interpolated(x[inside].astype(float), size))
    dy = np.random.default_rng(2).standard_normal(y.shape).astype("f4")
    built.bottom[0].diff[...] = 5
    dx = built.backward(dy)[0]
    assert np.sum(dx * x) == pytest.approx(np.sum(dy * y), rel=1e-4, abs=1e-3)  # the transpose
    outside = np.ones_like(dx)
    outside[inside] = 0
    assert not (dx * outside).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_size_of_another_blob(engine):
    x, other = np.random.default_rng(1).standard_normal((2, 3, 4, 5)), np.zeros((1, 7, 6, 8))
    built = Built('type: "Interp" interp_param { use_blob_size: true }', x, other, engine=engine)
    assert_close(built.forward()[0], interpolated(x, (6, 8)))
    built.bottom[1].reshape(1, 7, 3, 3)
    assert_close(built.forward()[0], interpolated(x, (3, 3)))


REFUSED = [
    (
        "", [SHAPE], ConfigError,
        "the size of the top is not set\n  Set height and width, zoom_factor, shrink_factor or both.",
    ),
    ("pad_beg: 1 zoom_factor: 2", [SHAPE], ConfigError, "pad_beg 1 and pad_end 0 must be 0 or negative: they only cut"),
    ("zoom_factor: 0", [SHAPE], ConfigError, "zoom_factor and shrink_factor must be at least 1"),
    ("height: 0 width: 3", [SHAPE], ShapeError, "the top of Interp cannot be 0x3"),
    (
        "zoom_factor: 2 pad_beg: -4 pad_end: -3", [SHAPE], ShapeError,
        'pad_beg and pad_end leave nothing of "x" (2, 3, 7, 9)',
    ),
    ("zoom_factor: 2", [(2, 3, 4)], ShapeError, 'Interp needs bottoms (N, C, H, W), "x" is (2, 3, 4)'),
    (
        "zoom_factor: 2", [SHAPE, SHAPE], ConfigError,
        "use_blob_size: true and a second bottom, which gives the size, belong together",
    ),
]  # fmt: skip


@pytest.mark.parametrize("fields, shapes, error, message", REFUSED)
def test_refused(fields, shapes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Built(f'type: "Interp" bottom: "x" interp_param {{ {fields} }}', *map(np.ones, shapes))
