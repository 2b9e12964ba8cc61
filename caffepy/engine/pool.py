"""Pooling in numpy. Arrays are channels-last, (N, H, W, C); every statement runs over contiguous channels."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.engine.window import Window

FLOAT_MAX = np.finfo(np.float32).max


# With fewer channels than this, numpy's inner loops over channels are too short: work in runs along a row instead.
FEW_CHANNELS = 48
# With more positions than this in a kernel, gradients are scattered one by one.
LARGE_KERNEL = 64


def max_pool(x, y, choice, window: Window) -> None:
    """Largest value of each window and, in `choice`, 1 + the kernel position it came from (0: an empty window).

    Along the rows first, then across them: the first in row order wins a tie, as in Caffe.
    """
    (out_height, out_width), (kernel_height, kernel_width) = y.shape[1:3], window.kernel
    source = _bordered(x, (out_height, out_width), window)
    stride = window.stride[1]
    # Dense: the maximum at every column, in long runs; the columns that nobody wants are dropped at the end.
    dense = x.shape[3] < FEW_CHANNELS
    step, columns = (1, (out_width - 1) * stride + 1) if dense else (stride, out_width)
    best, number = _running_max(
        (source[:, :, k : k + (columns - 1) * step + 1 : step], choice.dtype.type(k + 1)) for k in range(kernel_width)
    )
    rows = [slice(k, k + (out_height - 1) * window.stride[0] + 1, window.stride[0]) for k in range(kernel_height)]
    best, number = _running_max(
        (
            best[:, row],
            np.add(number if np.ndim(number) == 0 else number[:, row], choice.dtype.type(k * kernel_width)),
        )
        for k, row in enumerate(rows)
    )
    y[...] = best[:, :, ::stride] if dense else best
    choice[...] = number[:, :, ::stride] if dense and np.ndim(number) else number
    if source is not x:
        choice[y == -FLOAT_MAX] = 0


def _running_max(candidates):
    """Elementwise maximum of arrays, and the label of the first array that has it; labels rise from array to array."""
    best = choice = None
    for candidate, label in candidates:
        if best is None:
            best, choice = candidate, label
        else:
            # Labels rise, so the highest of those strictly larger is the last; `where` takes ten times as long.
            choice = np.maximum(choice, (candidate > best) * label)
            best = np.maximum(best, candidate)
    return best, choice


def _bordered(x, out, window: Window):
    """x with a border of -FLT_MAX wide enough for every window, or x itself."""
    needed = [(m - 1) * s + k for m, s, k in zip(out, window.stride, window.kernel)]
    if not any(window.pad) and all(n <= size for n, size in zip(needed, x.shape[1:3])):
        return x
    bordered = np.full((len(x), *needed, x.shape[3]), -FLOAT_MAX, x.dtype)
    spans = [min(size, n - p) for size, n, p in zip(x.shape[1:3], needed, window.pad)]
    at = tuple(slice(p, p + span) for p, span in zip(window.pad, spans))
    bordered[(slice(None), *at)] = x[:, : spans[0], : spans[1]]
    return bordered


def max_pool_grad(dy, choice, dx, window: Window) -> None:
    """Each gradient goes where its value came from."""
    apart = all(s >= k for s, k in zip(window.stride, window.kernel))
    tiled = tuple(m * k for m, k in zip(dy.shape[1:3], window.kernel))
    if window.stride != window.kernel or any(window.pad) or dx.shape[1:3] != tiled:
        dx[...] = 0  # some cells lie outside of all windows
    if apart and prod(window.kernel) > LARGE_KERNEL:
        _scatter(dy, choice, dx, window)
        return
    for number, position in enumerate(np.ndindex(*window.kernel), 1):
        outputs, cells = window.reach(position, dx.shape[1:3], dy.shape[1:3])
        at, target = (slice(None), *outputs), dx[(slice(None), *cells)]
        share = dy[at] * (choice[at] == number)
        if apart:
            target[...] = share
        else:
            target += share


def _scatter(dy, choice, dx, window: Window) -> None:
    """max_pool_grad for few large windows that do not overlap: one assignment instead of one a kernel position."""
    dx[...] = 0
    index = mask(choice, window, dx.shape[1:3])
    item, row, column, channel = np.nonzero(index >= 0)
    cells = index[item, row, column, channel]
    dx[item, cells // dx.shape[2], cells % dx.shape[2], channel] = dy[item, row, column, channel]


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


def stochastic_draw(x, y, choice, level, window: Window) -> None:
    """The first value of each window whose running sum reaches `level` times the window's sum.

    `choice` as `max_pool` has it. x is not negative (Zeiler and Fergus 2013; Caffe's GPU kernel).
    """
    threshold = level * _window_sum(x, y.shape, window)
    y[...], choice[...] = 0, 0
    total = np.zeros(y.shape, x.dtype)
    for number, position in enumerate(np.ndindex(*window.kernel), 1):
        outputs, cells = window.reach(position, x.shape[1:3], y.shape[1:3])
        at, values = (slice(None), *outputs), x[(slice(None), *cells)]
        total[at] += values
        reached = (total[at] >= threshold[at]) & (choice[at] == 0)
        np.copyto(y[at], values, where=reached)
        np.copyto(choice[at], number, where=reached, casting="unsafe")


def stochastic_mean(x, y, window: Window) -> None:
    """sum x^2 / sum x of each window, 0 where the sum is not positive."""
    total = _window_sum(x, y.shape, window)
    positive = total > 0
    y[...] = 0
    np.divide(_window_sum(x * x, y.shape, window), total, out=y, where=positive)


def _window_sum(x, shape, window: Window) -> np.ndarray:
    total = np.zeros(shape, x.dtype)
    for position in np.ndindex(*window.kernel):
        outputs, cells = window.reach(position, x.shape[1:3], shape[1:3])
        total[(slice(None), *outputs)] += x[(slice(None), *cells)]
    return total


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
