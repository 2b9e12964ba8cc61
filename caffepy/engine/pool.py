"""Pooling in numpy. Arrays are channels-last, (N, H, W, C); every statement runs over contiguous channels."""

from __future__ import annotations

import numpy as np

from caffepy.engine.window import Window

FLOAT_MAX = np.finfo(np.float32).max


def max_pool(x, y, choice, window: Window) -> None:
    """Largest value of each window and, in `choice`, 1 + the kernel position it came from (0: an empty window).

    The first in row order wins a tie, as in Caffe.
    """
    y[...] = -FLOAT_MAX
    choice[...] = 0
    larger = np.empty(y.shape, bool)
    rank = np.empty(y.shape, choice.dtype)
    for number, position in enumerate(np.ndindex(*window.kernel), 1):
        outputs, cells = window.reach(position, x.shape[1:3], y.shape[1:3])
        at = (slice(None), *outputs)
        candidate = x[(slice(None), *cells)]
        np.greater(candidate, y[at], out=larger[at])
        np.maximum(y[at], candidate, out=y[at])
        # Positions are visited in rising order, so the last that was strictly larger has the highest number.
        np.multiply(larger[at], number, out=rank[at], dtype=choice.dtype, casting="unsafe")
        np.maximum(choice[at], rank[at], out=choice[at])


def max_pool_grad(dy, choice, dx, window: Window) -> None:
    dx[...] = 0
    for number, position in enumerate(np.ndindex(*window.kernel), 1):
        outputs, cells = window.reach(position, dx.shape[1:3], dy.shape[1:3])
        at = (slice(None), *outputs)
        dx[(slice(None), *cells)] += dy[at] * (choice[at] == number)


def ave_pool(x, y, window: Window) -> None:
    """Sum of each window over its area cut at in + pad."""
    y[...] = 0
    for position in np.ndindex(*window.kernel):
        outputs, cells = window.reach(position, x.shape[1:3], y.shape[1:3])
        y[(slice(None), *outputs)] += x[(slice(None), *cells)]
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty window is 0 / 0, as in Caffe
        y /= areas(window, x.shape[1:3], y.shape[1:3])


def ave_pool_grad(dy, dx, window: Window) -> None:
    dx[...] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        share = dy / areas(window, dx.shape[1:3], dy.shape[1:3])
    for position in np.ndindex(*window.kernel):
        outputs, cells = window.reach(position, dx.shape[1:3], dy.shape[1:3])
        dx[(slice(None), *cells)] += share[(slice(None), *outputs)]


def areas(window: Window, size, count) -> np.ndarray:
    """Cells of each window before in + pad, padding included: (H, W, 1)."""
    spans = []
    for n, m, k, s, p in zip(size, count, window.kernel, window.stride, window.pad):
        start = np.arange(m) * s - p
        spans.append(np.minimum(start + k, n + p) - start)
    return np.multiply.outer(*spans).astype("f4")[..., None]


def mask(choice, window: Window, size) -> np.ndarray:
    """`choice` as Caffe's mask: the index within H * W of each window's largest value, -1 where there is none."""
    number = choice.astype(np.int64) - 1
    row, column = np.divmod(number, window.kernel[1])
    oh, ow = (np.arange(m) * s - p for m, s, p in zip(choice.shape[1:3], window.stride, window.pad))
    index = (row + oh[:, None, None]) * size[1] + column + ow[:, None]
    return np.where(number < 0, -1, index)
