"""Pooling in numpy. Arrays are channels-last, (N, H, W, C); every statement runs over contiguous channels."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from caffepy.engine.window import Ints, Window

FLOAT_MAX = np.finfo(np.float32).max


# With fewer channels than this, numpy's inner loops over them are too short to pay for their start.
FEW_CHANNELS = 96


def max_pool(x, y, choice, window: Window) -> None:
    """Largest value of each window and, in `choice`, 1 + the kernel position it came from (0: an empty window).

    Along the rows first, then across them: the first in row order wins a tie, as in Caffe.
    """
    out_height, (kernel_height, kernel_width) = y.shape[1], window.kernel
    columns, has_border = _seen_by_columns(x, y.shape[1:3], window)
    label = choice.dtype.type
    # An array of ones: numpy's maximum of a number and an array takes twenty times as long.
    first = np.ones(columns[0].shape, choice.dtype)
    best, number = _running_max((x, first if k == 1 else label(k)) for k, x in enumerate(columns, 1))
    rows = [slice(k, k + (out_height - 1) * window.stride[0] + 1, window.stride[0]) for k in range(kernel_height)]
    _running_max(
        ((best[:, row], np.add(number[:, row], label(k * kernel_width))) for k, row in enumerate(rows)),
        out=(y, choice),
    )
    if has_border:
        choice[y == -FLOAT_MAX] = 0


def _running_max(candidates, out=(None, None)):
    """Elementwise maximum of arrays, and the label of the first array that has it; labels rise from array to array."""
    best, choice = next(candidates)
    into, labels = out
    for candidate, label in candidates:
        # Labels rise, so the highest of those strictly larger is the last; `where` takes ten times as long.
        labels = np.maximum(choice, (candidate > best).view(np.uint8) * label, out=labels)
        into = np.maximum(best, candidate, out=into)
        best, choice = into, labels
    if best is not into and into is not None:  # a single candidate
        into[...], labels[...] = best, choice
    return best, choice


def _seen_by_columns(x, out: Ints, window: Window) -> tuple[list[np.ndarray], bool]:
    """What each column of the kernel sees, (n, rows, out width, C), and whether there is a border (-FLOAT_MAX) in it.

    With few channels the columns of x are sorted by their remainder modulo the stride: then each of these arrays is
    contiguous in a row, and numpy's inner loops run over rows instead of channels.
    """
    (n, height, width, channels), (top, left), stride = x.shape, window.pad, window.stride[1]
    needed = [(m - 1) * s + k for m, s, k in zip(out, window.stride, window.kernel)]
    phases = stride if channels < FEW_CHANNELS else 1
    has_border = any(window.pad) or needed[0] > height or needed[1] > width
    if phases == 1 and not has_border:
        values = x[:, :, None]
    else:
        values = np.empty((n, needed[0], phases, -(-needed[1] // phases), channels), x.dtype)
        rows = slice(top, min(top + height, needed[0]))
        values[:, :top] = values[:, rows.stop :] = -FLOAT_MAX
        for phase in range(phases):
            first = max(0, -(-(left - phase) // phases))  # the first of these columns that lies in the image
            image = x[:, : rows.stop - top, first * phases + phase - left :: phases]
            cells = values[:, rows, phase]
            last = min(first + image.shape[2], cells.shape[2])
            cells[:, :, :first] = cells[:, :, last:] = -FLOAT_MAX
            cells[:, :, first:last] = image[:, :, : last - first]
    step, length = stride // phases, (out[1] - 1) * (stride // phases) + 1
    firsts = [divmod(k, phases) for k in range(window.kernel[1])]
    return [values[:, :, phase, first : first + length : step] for first, phase in firsts], has_border


def max_pool_grad(dy, choice, dx, window: Window) -> None:
    """Each gradient is added to the cell its value came from, in the order of the outputs, as in Caffe."""
    first, offset = _cells_of_windows(window, dx.shape[1:3], dy.shape[1:3], dx.shape[3])
    cells = np.take(offset, choice, mode="clip")  # the other modes check or copy first: ten times as long
    cells += first
    cells += np.arange(0, dx.size, max(1, prod(dx.shape[1:])))[:, None, None, None]
    if not choice.min(initial=1):  # an empty window
        cells, dy = cells[choice > 0], dy[choice > 0]
    target = dx if dx.flags.c_contiguous else np.empty(dx.shape, dx.dtype)
    target[...] = 0
    flat = target.reshape(-1)
    if all(s >= k for s, k in zip(window.stride, window.kernel)):
        flat[cells.reshape(-1)] = dy.reshape(-1)
    else:
        np.add.at(flat, cells.reshape(-1), dy.reshape(-1))
    if target is not dx:
        dx[...] = target


@cache
def _cells_of_windows(window: Window, size: Ints, out: Ints, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one image, flat: the first cell of each window (*out, channels), and how far on each choice is."""
    row, column = (np.arange(m) * s - p for m, s, p in zip(out, window.stride, window.pad))
    first = ((row[:, None] * size[1] + column) * channels)[..., None] + np.arange(channels)
    number = np.arange(prod(window.kernel))
    offset = (number // window.kernel[1] * size[1] + number % window.kernel[1]) * channels
    return first, np.append(0, offset)


def ave_pool(x, y, window: Window) -> None:
    """Sum of each window over its area cut at in + pad; rows first, then columns."""
    (n, height, width, channels), (out_height, out_width) = x.shape, y.shape[1:3]
    rows = np.zeros((n, out_height, width, channels), x.dtype)
    for k in range(window.kernel[0]):
        outputs, cells = window.reach_along(0, k, height, out_height)
        rows[:, outputs] += x[:, cells]
    y[...] = 0
    for k in range(window.kernel[1]):
        outputs, cells = window.reach_along(1, k, width, out_width)
        y[:, :, outputs] += rows[:, :, cells]
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty window is 0 / 0, as in Caffe
        y /= areas(window, x.shape[1:3], y.shape[1:3], channels)


def ave_pool_grad(dy, dx, window: Window) -> None:
    (n, height, width, channels), (out_height, out_width) = dx.shape, dy.shape[1:3]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = dy / areas(window, dx.shape[1:3], dy.shape[1:3], channels)
    rows = np.zeros((n, out_height, width, channels), dx.dtype)
    for k in range(window.kernel[1]):
        outputs, cells = window.reach_along(1, k, width, out_width)
        rows[:, :, cells] += share[:, :, outputs]
    dx[...] = 0
    for k in range(window.kernel[0]):
        outputs, cells = window.reach_along(0, k, height, out_height)
        dx[:, cells] += rows[:, outputs]


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


@cache
def areas(window: Window, size: Ints, count: Ints, channels: int) -> np.ndarray:
    """Cells of each window before in + pad, padding included: (H, W, channels), for numpy's long inner loops."""
    spans = []
    for n, m, k, s, p in zip(size, count, window.kernel, window.stride, window.pad):
        start = np.arange(m) * s - p
        spans.append(np.minimum(start + k, n + p) - start)
    return np.repeat(np.multiply.outer(*spans).astype("f4")[..., None], channels, axis=2)


def mask(choice, window: Window, size) -> np.ndarray:
    """`choice` as Caffe's mask: the index within H * W of each window's largest value, -1 where there is none."""
    number = choice.astype(np.int64) - 1
    row, column = np.divmod(number, window.kernel[1])
    oh, ow = (np.arange(m) * s - p for m, s, p in zip(choice.shape[1:3], window.stride, window.pad))
    index = (row + oh[:, None, None]) * size[1] + column + ow[:, None]
    return np.where(number < 0, -1, index)
