"""Winograd's filtering: the identity itself, where it is used, and its rounding error."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.engine.numpy import winograd
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.engine.window import Window
from tests.engine.numpy.test_engine import channels_last, random


@pytest.mark.parametrize(("m", "k"), [(m, k) for k in range(2, 8) for m in range(2, 10 - k)])
def test_filtering_is_a_correlation(m, k):
    outputs, weights, inputs = (matrix.astype(float) for matrix in winograd.filtering(m, k))
    x, w = np.random.default_rng(m).normal(size=m + k - 1), np.random.default_rng(k).normal(size=k)
    np.testing.assert_allclose(outputs @ ((weights @ w) * (inputs @ x)), np.correlate(x, w, "valid"), rtol=1e-4)


def window(kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Window:
    return Window(*((n, n) for n in (kernel, stride, pad, dilation)))


@pytest.mark.parametrize(
    ("shape", "out", "channels", "m"),
    [
        (window(3), (56, 56), 64, 6),
        (window(3), (13, 13), 256, 5),  # three groups of 5 rows cost 21 products a column, four of 4 cost 24
        (window(5), (16, 16), 32, 4),
        (window(11, stride=4), (55, 55), 3, 5),  # four interleaved filters of 3 taps
        (window(1), (56, 56), 64, None),
        (window(2, stride=2), (28, 28), 64, None),  # nothing overlaps
        (window(3, dilation=2), (28, 28), 64, None),
        (window(5), (24, 24), 1, None),  # products too thin
        (window(3), (1, 9), 64, None),  # a single row
        (window(3), (0, 9), 64, None),
        (Window((), (), (), ()), (), 64, None),
    ],
)
def test_where_it_saves(shape, out, channels, m):
    plan = winograd.plan(shape, out, channels)
    assert (plan and plan.m) == m


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 14), (5, 1, 16), (7, 2, 29)])
def test_rounding_error_is_a_few_times_that_of_the_plain_sum(monkeypatch, kernel, stride, size):
    engine, shape = NumpyEngine(2), window(kernel, stride, kernel // 2)
    out = shape.conv_shape((size, size))
    x, w = channels_last(np.maximum(random((2, 64, size, size)), 0)), random((32, 64, kernel, kernel), 1)
    dy = channels_last(random((2, 32, *out), 2))

    def results() -> list[np.ndarray]:
        y, dw, dx = np.zeros_like(dy), np.zeros_like(w), np.zeros_like(x)
        plan = engine.conv_plan(x.shape, w.shape, shape)
        engine.conv(x, w, None, y, plan)
        engine.conv_grad_weights(x, dy, dw, plan)
        engine.conv_grad_data(dy, w, dx, plan)
        return [y, dw, dx]

    assert winograd.plan(shape, out, 64)
    filtered = results()
    monkeypatch.setattr(winograd, "SAVING", np.inf)
    for ours, plain, exact in zip(filtered, results(), plain_in_double(x, w, dy, shape)):
        scale = np.abs(exact).max()
        assert np.abs(ours - exact).max() < 4e-6 * scale
        assert np.abs(plain - exact).max() < 2e-6 * scale
        assert np.abs(ours - exact).std() < 8 * np.abs(plain - exact).std()


def plain_in_double(x, w, dy, shape: Window) -> list[np.ndarray]:
    """The convolution and its gradients, kernel position by position."""
    pad, stride = shape.pad[0], shape.stride[0]
    padded = np.pad(x.astype("f8"), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    y, dw, dx = np.zeros(dy.shape), np.zeros(w.shape), np.zeros_like(padded)
    for i, j in np.ndindex(*shape.kernel):
        rows, columns = (slice(k, k + (n - 1) * stride + 1, stride) for k, n in zip((i, j), dy.shape[2:]))
        seen = padded[:, :, rows, columns]
        y += np.einsum("nchw,oc->nohw", seen, w[:, :, i, j])
        dw[:, :, i, j] = np.einsum("nchw,nohw->oc", seen, dy)
        dx[:, :, rows, columns] += np.einsum("nohw,oc->nchw", dy, w[:, :, i, j])
    return [y, dw, dx[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]]]
