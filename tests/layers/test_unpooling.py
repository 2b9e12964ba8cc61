"""Unpooling."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.layers.test_upsample import placed
from tests.support import ENGINES, Built, assert_close

IMAGE = (2, 3, 4, 5)


def spread(x, kernel, stride, size, method):
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*x.shape[2:]):
        top, left = i * stride[0], j * stride[1]
        window = y[:, :, top : top + kernel[0], left : left + kernel[1]]
        if method == "MAX":
            window = window[:, :, :1, :1]
        area = window.shape[2] * window.shape[3] if method == "AVE" else 1
        window += x[:, :, i : i + 1, j : j + 1] / area
    return y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(
    "fields, kernel, stride, size",
    [
        ("kernel_size: 2 stride: 2", (2, 2), (2, 2), (9, 11)),  # as in the fork, one more than 2 H
        ("kernel_size: 3", (3, 3), (1, 1), (6, 7)),
        ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3", (3, 2), (2, 3), (9, 16)),
        ("kernel_size: 3 stride: 2 unpool_size: 10", (3, 3), (2, 2), (10, 10)),
        ("kernel_size: 3 stride: 2 unpool_h: 8 unpool_w: 10", (3, 3), (2, 2), (8, 10)),
    ],
)
def test_without_a_mask(fields, kernel, stride, size, method, engine):
    x = np.random.default_rng(1).standard_normal(IMAGE).astype("f4")
    built = Built(f'type: "Unpooling" unpooling_param {{ {fields} unpool: {method} }}', x, engine=engine)
    y = built.forward()[0]
    assert_close(y, spread(x, kernel, stride, size, method))
    dy = np.random.default_rng(2).standard_normal(y.shape).astype("f4")
    assert np.sum(built.backward(dy)[0] * x) == pytest.approx(np.sum(dy * y), rel=1e-4)  # the transpose


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["Unpooling", "UnPooling"])
def test_by_mask(kind, engine):
    random = np.random.default_rng(1)
    x, mask = random.standard_normal(IMAGE).astype("f4"), random.integers(0, 48, IMAGE)
    fields = "kernel_size: 2 stride: 2 unpool_h: 6 unpool_w: 8"
    built = Built(f'type: "{kind}" unpooling_param {{ {fields} }}', x, mask, engine=engine)
    assert_close(built.forward()[0], placed(x, mask, (6, 8)), 0)
    dy = random.standard_normal((2, 3, 6, 8)).astype("f4")
    dx = built.backward(dy, propagate_down=[True, False])[0]
    assert_close(dx, np.take_along_axis(dy.reshape(2, 3, -1), mask.reshape(2, 3, -1), 2).reshape(IMAGE), 0)


REFUSED = [
    ("", [IMAGE], ConfigError, "kernel_size is not set"),
    ("kernel_size: 0", [IMAGE], ConfigError, "the unpooling kernel and stride must be at least 1"),
    ("kernel_size: 2 pad: 1", [IMAGE], ConfigError, "Unpooling takes no padding"),
    ("kernel_size: 2 unpool: AVE", [IMAGE, IMAGE], ConfigError, "only MAX unpooling takes a mask"),
    (
        "kernel_size: 2 unpool_h: 9", [IMAGE], ConfigError,
        "the size of the top is unpool_size, or unpool_h and unpool_w",
    ),
    (
        "kernel_size: 2 stride: 2 unpool_size: 8", [IMAGE], ShapeError,
        'a top of 8x8 has no place for the windows of "x"',
    ),
    ("kernel_size: 2", [(2, 3, 4)], ShapeError, 'Unpooling needs a bottom (N, C, H, W), "x" is (2, 3, 4)'),
]  # fmt: skip


@pytest.mark.parametrize("fields, shapes, error, message", REFUSED)
def test_refused(fields, shapes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Built(f'type: "Unpooling" bottom: "x" bottom: "m" unpooling_param {{ {fields} }}', *map(np.ones, shapes))
