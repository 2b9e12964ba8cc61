"""LRN: across channels and within a channel."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close

SHAPES = [(2, 7, 3, 4), (1, 1, 5, 2), (3, 4, 1, 1), (2, 3, 9, 6), (0, 3, 2, 2), (2, 70, 15, 16)]


def neighbours(values, size, axes):
    """Sum of the values at most size // 2 away along each of the axes; outside is 0."""
    for axis in axes:
        half, n = size // 2, values.shape[axis]
        pads = [(half, half) if i == axis else (0, 0) for i in range(4)]
        padded = np.pad(values, pads)
        values = sum(np.take(padded, range(s, s + n), axis=axis) for s in range(size))
    return values


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("region, axes", [("ACROSS_CHANNELS", (1,)), ("WITHIN_CHANNEL", (2, 3))])
@pytest.mark.parametrize(
    "size, alpha, beta, k", [(5, 1, 0.75, 1), (3, 0.5, 0.6, 2), (7, 1.5, 0.75, 1), (1, 2, 1, 1), (21, 2, 0.75, 1)]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, size, alpha, beta, k, region, axes, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    fields = f"local_size: {size} alpha: {alpha} beta: {beta} k: {k} norm_region: {region}"
    built = Built(f'type: "LRN" lrn_param {{ {fields} }}', x, engine=engine)
    share = alpha / size ** len(axes)  # border windows divide by the whole size too
    x, dy = x.astype(float), dy.astype(float)
    scale = (k if region == "ACROSS_CHANNELS" else 1) + share * neighbours(x * x, size, axes)
    assert_close(built.forward()[0], x * scale**-beta)
    through = neighbours(dy * x * scale ** (-beta - 1), size, axes)
    assert_close(built.backward(dy)[0], dy * scale**-beta - 2 * share * beta * x * through)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_large_values(region, engine):
    x = 1e4 * np.random.default_rng(1).standard_normal((2, 5, 4, 4)).astype("f4")
    built = Built(f'type: "LRN" lrn_param {{ norm_region: {region} }}', x, engine=engine)
    assert np.isfinite(built.forward()[0]).all()
    assert np.isfinite(built.backward(np.ones_like(x))[0]).all()


@pytest.mark.parametrize(
    "size, shape, error, message",
    [
        (4, (1, 2, 3, 3), ConfigError, "lrn_param.local_size must be odd, got 4"),
        (0, (1, 2, 3, 3), ConfigError, "lrn_param.local_size must be odd, got 0"),
        (5, (2, 3), ShapeError, 'LRN needs a bottom (N, C, H, W), "x" is (2, 3)'),
    ],
)
def test_refused(size, shape, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Built(f'type: "LRN" bottom: "x" lrn_param {{ local_size: {size} }}', np.ones(shape))


def test_a_window_wider_than_all_channels_costs_no_more():
    """A definition could ask for gigabytes so."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    built = Built('type: "LRN" lrn_param { local_size: 2000000001 alpha: 2000000001 }', x)
    assert_close(built.forward()[0], x * (1 + (x * x).sum(axis=1, keepdims=True)) ** -0.75)
