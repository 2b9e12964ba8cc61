"""Pooling against a loop over windows."""

from __future__ import annotations

import re
from math import ceil, floor

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import TEST, TRAIN
from tests.support import ENGINES, Built, assert_close

#    bottom         pooling_param                                    kernel  stride  pad
CASES = [
    ((2, 3, 6, 8), "kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0)),
    ((2, 3, 7, 5), "kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0)),
    ((1, 2, 7, 9), "kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1)),
    ((2, 50, 7, 9), "kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1)),
    ((2, 50, 8, 8), "kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0)),
    ((2, 3, 5, 6), "kernel_size: 3", (3, 3), (1, 1), (0, 0)),
    ((2, 3, 4, 4), "kernel_size: 2 stride: 3", (2, 2), (3, 3), (0, 0)),  # cells between the windows
    ((2, 60, 4, 4), "kernel_size: 2 stride: 3", (2, 2), (3, 3), (0, 0)),
    ((1, 3, 9, 7), "kernel_h: 4 kernel_w: 1 stride_h: 1 stride_w: 3", (4, 1), (1, 3), (0, 0)),
    ((1, 2, 8, 8), "kernel_h: 3 kernel_w: 5 stride: 3 pad_h: 0 pad_w: 4", (3, 5), (3, 3), (0, 4)),
    ((2, 2, 6, 7), "kernel_size: 3 stride: 2 round_mode: FLOOR", (3, 3), (2, 2), (0, 0)),
    ((2, 2, 6, 7), "kernel_size: 3 stride: 2 pad: 2 round_mode: FLOOR", (3, 3), (2, 2), (2, 2)),
    ((2, 2, 6, 7), "kernel_size: 3 stride: 2 pad: 1 ceil_mode: false", (3, 3), (2, 2), (1, 1)),
    ((2, 2, 6, 7), "kernel_size: 3 stride: 2 ceil_mode: true", (3, 3), (2, 2), (0, 0)),
    ((2, 3, 2, 2), "kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0)),  # larger than the bottom, rounded up
    ((2, 3, 5, 4), "global_pooling: true", (5, 4), (1, 1), (0, 0)),
    ((1, 2, 40, 41), "kernel_size: 17 stride: 4", (17, 17), (4, 4), (0, 0)),  # more than 255 positions
    ((0, 3, 5, 4), "kernel_size: 2", (2, 2), (1, 1), (0, 0)),
]
IDS = [f"{case[0]} {case[1]}" for case in CASES]


def windows(shape, text, kernel, stride, pad):
    """For each output position: its slices of the bottom, and its area cut at in + pad."""
    rounded = floor if "FLOOR" in text or "false" in text else ceil
    spans = []
    for n, k, s, p in zip(shape[2:], kernel, stride, pad):
        count = rounded((n + 2 * p - k) / s) + 1
        if any(pad) and (count - 1) * s >= n + p:
            count -= 1
        starts = [o * s - p for o in range(count)]
        spans.append([(slice(max(a, 0), min(a + k, n)), min(a + k, n + p) - a) for a in starts])
    sizes = tuple(map(len, spans))
    return sizes, {
        at: ((spans[0][at[0]][0], spans[1][at[1]][0]), spans[0][at[0]][1] * spans[1][at[1]][1])
        for at in np.ndindex(*sizes)
    }


def build(text, x, engine, **options):
    return Built(f'type: "Pooling" pooling_param {{ {text} }}', x, engine=engine, **options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("repeated", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_max(case, repeated, engine):
    shape, text, *window = case
    random = np.random.default_rng(1)
    x = random.integers(-3, 3, shape) if repeated else random.permutation(int(np.prod(shape))).reshape(shape) - 50
    x = x.astype("f4")
    sizes, at = windows(shape, text, *window)
    y, mask = np.zeros((2, *shape[:2], *sizes))
    dy = random.standard_normal(y.shape).astype("f4")
    dx = np.zeros(shape)
    for n, c in np.ndindex(*shape[:2]):
        for o, ((rows, columns), _) in at.items():
            cells = x[n, c, rows, columns]
            i, j = np.unravel_index(np.argmax(cells), cells.shape)  # the first of equal values
            y[n, c][o] = cells[i, j]
            mask[n, c][o] = (rows.start + i) * shape[3] + columns.start + j
            dx[n, c, rows.start + i, columns.start + j] += dy[n, c][o]
    built = build(text, x, engine, tops=2)
    for ours, expected in zip(built.forward(), (y, mask)):
        assert_close(ours, expected, 0)
    built.bottom[0].diff[...] = 7  # overwritten
    assert_close(built.backward(dy, np.ones_like(dy))[0], dx)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_average(case, engine):
    shape, text, *window = case
    random = np.random.default_rng(2)
    x = random.standard_normal(shape).astype("f4")
    sizes, at = windows(shape, text, *window)
    y, dx = np.zeros((*shape[:2], *sizes)), np.zeros(shape)
    dy = random.standard_normal(y.shape).astype("f4")
    for (i, j), ((rows, columns), area) in at.items():
        y[:, :, i, j] = x[:, :, rows, columns].sum(axis=(2, 3), dtype=float) / area
        dx[:, :, rows, columns] += (dy[:, :, i, j] / area)[:, :, None, None]
    built = build("pool: AVE " + text, x, engine)
    assert_close(built.forward()[0], y)
    built.bottom[0].diff[...] = 7
    assert_close(built.backward(dy)[0], dx)


@pytest.mark.parametrize("engine", ENGINES)
def test_empty_windows(engine):
    """Stride beyond the kernel, rounded up: the last window lies outside."""
    x = np.ones((1, 1, 1, 4), "f4")
    text = "kernel_size: 1 stride_h: 1 stride_w: 4"
    built = build(text, x, engine, tops=2)
    y, mask = built.forward()
    assert y.ravel().tolist() == [1, -np.finfo("f4").max]
    assert mask.ravel().tolist() == [0, -1]
    assert built.backward(np.ones_like(y))[0].ravel().tolist() == [1, 0, 0, 0]
    y = build("pool: AVE " + text, x, engine).forward()[0]
    assert y.ravel()[0] == 1
    assert np.isnan(y.ravel()[1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", [c for c in CASES if not any(c[4]) and c[0][0]], ids=lambda c: f"{c[0]} {c[1]}")
def test_stochastic(case, engine):
    shape, text, *window = case
    rng.seed(3)
    x = np.random.default_rng(3).random(shape).astype("f4")
    x[x < 0.3] = 0
    _, at = windows(shape, text, *window)
    built = build("pool: STOCHASTIC " + text, x, engine)
    (y,) = built.forward()
    mean = build("pool: STOCHASTIC " + text, x, engine, phase=TEST).forward()[0]
    for (i, j), ((rows, columns), _) in at.items():
        cells = x[:, :, rows, columns].reshape(*shape[:2], -1).astype(float)
        drawn = y[:, :, i, j, None]
        assert ((cells == drawn).any(axis=2)).all()
        assert ((drawn[..., 0] > 0) | (cells.sum(axis=2) == 0)).all()
        total = cells.sum(axis=2)
        assert_close(mean[:, :, i, j], np.where(total > 0, (cells**2).sum(axis=2) / np.maximum(total, 1e-9), 0))
    dy = np.ones_like(y)
    (dx,) = built.backward(dy)
    assert dx.sum() == dy.sum()
    # Where the gradient went is where the value came from.
    assert_close((dx * x).sum(), y.sum())


@pytest.mark.parametrize("engine", ENGINES)
def test_stochastic_draws_in_proportion(engine):
    rng.seed(4)
    x = np.tile(np.array([[0, 1], [2, 5]], "f4"), (5000, 2, 1, 1))
    y = build("pool: STOCHASTIC kernel_size: 2", x, engine).forward()[0]
    shares = [(y == value).mean() for value in (0, 1, 2, 5)]
    np.testing.assert_allclose(shares, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.02)


def test_stochastic_has_no_gradient_in_test():
    built = build("pool: STOCHASTIC kernel_size: 2", np.ones((1, 1, 2, 2)), "numpy", phase=TEST)
    built.forward()
    message = (
        "STOCHASTIC pooling has no gradient in TEST, where no value is drawn\n"
        "  Use phase: TRAIN, or propagate_down: false."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        built.backward(np.ones((1, 1, 1, 1), "f4"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", ["kernel_size: 2", "global_pooling: true", "pool: AVE global_pooling: true"])
def test_bottom_may_change_size(text, engine):
    built = build(text, np.ones((1, 1, 3, 4)), engine)
    built.forward()
    built.bottom[0].reshape(2, 3, 5, 4)
    built.bottom[0].data[...] = 1
    (y,) = built.forward()
    assert y.shape == ((2, 3, 1, 1) if "global" in text else (2, 3, 4, 3))
    assert (y == 1).all()


REFUSED = [
    ("", "kernel_size is not set\n  Set kernel_size, kernel_h and kernel_w, or global_pooling."),
    ("kernel_size: 0", "the pooling kernel must be at least 1"),
    ("kernel_size: 2 stride: 0", "the pooling stride must be at least 1"),
    (
        "kernel_size: 2 kernel_h: 2",
        "both kernel_size and kernel_h / kernel_w are given\n  Keep one of the two.",
    ),
    (
        "kernel_size: 2 stride: 1 stride_h: 2",
        "both stride and stride_h / stride_w are given\n  Keep one of the two.",
    ),
    ("kernel_h: 2", "kernel_h and kernel_w must both be given"),
    ("kernel_size: 2 stride_w: 2", "stride_h and stride_w must both be given"),
    ("kernel_size: 2 pad_w: 1", "pad_h and pad_w must both be given"),
    ("kernel_size: 2 pad: 2", "pad 2x2 must be smaller than the kernel 2x2"),
    ("kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 1", "pad 1x1 must be smaller than the kernel 3x1"),
    (
        "global_pooling: true kernel_size: 2",
        "global_pooling covers the whole input: leave out kernel_size, kernel_h and kernel_w",
    ),
    ("global_pooling: true stride: 2", "global_pooling needs pad 0 and stride 1"),
    ("global_pooling: true pad_h: 1 pad_w: 0", "global_pooling needs pad 0 and stride 1"),
    ("pool: STOCHASTIC kernel_size: 2 pad: 1", "STOCHASTIC pooling takes no padding"),
    (
        "kernel_size: 5",
        'the kernel 5x5 is larger than the padded input (bottom "x" is 3x4, pad 0x0)',
    ),
]


@pytest.mark.parametrize("fields, message", REFUSED)
def test_refused(fields, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(f'type: "Pooling" bottom: "x" pooling_param {{ {fields} }}', np.zeros((1, 2, 3, 4)), phase=TRAIN)


def test_refused_shapes_and_masks():
    message = 'Pooling needs a bottom (N, C, H, W), "x" is (2, 3, 4)'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built('type: "Pooling" bottom: "x" pooling_param { kernel_size: 2 }', np.zeros((2, 3, 4)))
    for pool in ("AVE", "STOCHASTIC"):
        with pytest.raises(ConfigError, match=r"^only MAX pooling has a second top, the mask$"):
            Built(
                f'type: "Pooling" pooling_param {{ pool: {pool} kernel_size: 2 }}',
                np.zeros((1, 1, 3, 3)),
                tops=2,
            )


def test_two_names_for_the_rounding():
    message = "both round_mode and ceil_mode, two names for one thing, are given\n  Keep one of them."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build("kernel_size: 2 round_mode: CEIL ceil_mode: true", np.ones((1, 1, 4, 4)), "numpy")
