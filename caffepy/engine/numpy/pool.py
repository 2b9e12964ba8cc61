"""Pooling in numpy. Arrays are channels-last, (N, H, W, C); every statement runs over contiguous channels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from caffepy.engine.window import Ints, Window

FLOAT_MAX = np.finfo(np.float32).max
# With fewer channels than this, numpy's inner loops over them are too short to pay for their start.
FEW_CHANNELS = 96


class PoolPlan:
    """What pooling x (N, C, H, W) to y (N, C, h, w) needs to know; it serves any number of images."""

    def __init__(self, x: Ints, y: Ints, window: Window):
        self.shape, self.window = y, window
        self.channels, self.size, self.out = x[1], x[2:], y[2:]
        self.needed = [(m - 1) * s + k for m, s, k in zip(self.out, window.stride, window.kernel)]
        """Rows and columns from the first window's first to the last one's last."""
        self.has_border = any(window.pad) or any(n > size for n, size in zip(self.needed, self.size))
        self.phases = window.stride[1] if self.channels < FEW_CHANNELS else 1
        """By whose number columns are sorted: see `_seen_by_columns`."""

    @cached_property
    def rows(self) -> list[slice]:
        """Of each row of the kernel, the rows that it sees, border included."""
        kernel, stride = self.window.kernel[0], self.window.stride[0]
        return [slice(k, k + (self.out[0] - 1) * stride + 1, stride) for k in range(kernel)]

    @cached_property
    def columns(self) -> list[tuple[int, slice]]:
        """Of each column of the kernel, its phase, and the columns of that phase that it sees."""
        step = self.window.stride[1] // self.phases
        length = (self.out[1] - 1) * step + 1
        firsts = [divmod(k, self.phases) for k in range(self.window.kernel[1])]
        return [(phase, slice(first, first + length, step)) for first, phase in firsts]

    @cached_property
    def reach(self) -> list[list[tuple[slice, slice]]]:
        """Along each axis, of each kernel position: the outputs that see a real cell, and those cells."""
        axes = enumerate(zip(self.window.kernel, self.size, self.out))
        return [[self.window.reach_along(i, k, n, m) for k in range(kernel)] for i, (kernel, n, m) in axes]

    def positions(self) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """Of each kernel position: the index of the outputs that see a real cell, and that of those cells."""
        for (seen, rows), (by, columns) in product(*self.reach):
            yield (slice(None), seen, by), (slice(None), rows, columns)

    @cached_property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Of one image, flat: the first cell of each window (*out, channels), and how far on each choice is."""
        window, width, channels = self.window, self.size[1], self.channels
        row, column = (np.arange(m) * s - p for m, s, p in zip(self.out, window.stride, window.pad))
        first = ((row[:, None] * width + column) * channels)[..., None] + np.arange(channels)
        number = np.arange(prod(window.kernel))
        offset = (number // window.kernel[1] * width + number % window.kernel[1]) * channels
        return first, np.append(0, offset)

    @cached_property
    def areas(self) -> np.ndarray:
        """Cells of each window before in + pad, padding included: (h, w, channels), for numpy's long inner loops."""
        spans = []
        for n, m, k, s, p in zip(self.size, self.out, self.window.kernel, self.window.stride, self.window.pad):
            start = np.arange(m) * s - p
            spans.append(np.minimum(start + k, n + p) - start)
        return np.repeat(np.multiply.outer(*spans).astype("f4")[..., None], self.channels, axis=2)


def max_pool(x, y, choice, plan: PoolPlan) -> None:
    """Largest value of each window and, in `choice`, 1 + the kernel position it came from (0: an empty window).

    Along the rows first, then across them: the first in row order wins a tie, as in Caffe.
    """
    columns = _seen_by_columns(x, plan)
    label, width = choice.dtype.type, plan.window.kernel[1]
    # An array of ones: numpy's maximum of a number and an array takes twenty times as long.
    first = np.ones(columns[0].shape, choice.dtype)
    best, number = _running_max((x, first if k == 1 else label(k)) for k, x in enumerate(columns, 1))
    _running_max(
        ((best[:, row], np.add(number[:, row], label(k * width))) for k, row in enumerate(plan.rows)),
        out=(y, choice),
    )
    if plan.has_border:
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


def _seen_by_columns(x, plan: PoolPlan) -> list[np.ndarray]:
    """What each column of the kernel sees, (n, rows, out width, C), with -FLOAT_MAX where there is a border.

    With few channels the columns of x are sorted by their remainder modulo the stride: then each of these arrays is
    contiguous in a row, and numpy's inner loops run over rows instead of channels.
    """
    (n, height, _, channels), (top, left), phases = x.shape, plan.window.pad, plan.phases
    if phases == 1 and not plan.has_border:
        values = x[:, :, None]
    else:
        rows_needed, columns_needed = plan.needed
        values = np.empty((n, rows_needed, phases, -(-columns_needed // phases), channels), x.dtype)
        rows = slice(top, min(top + height, rows_needed))
        values[:, :top] = values[:, rows.stop :] = -FLOAT_MAX
        for phase in range(phases):
            first = max(0, -(-(left - phase) // phases))  # the first of these columns that lies in the image
            image = x[:, : rows.stop - top, first * phases + phase - left :: phases]
            cells = values[:, rows, phase]
            last = min(first + image.shape[2], cells.shape[2])
            cells[:, :, :first] = cells[:, :, last:] = -FLOAT_MAX
            cells[:, :, first:last] = image[:, :, : last - first]
    return [values[:, :, phase, seen] for phase, seen in plan.columns]


def max_pool_grad(dy, choice, dx, plan: PoolPlan) -> None:
    """Each gradient is added to the cell its value came from, in the order of the outputs, as in Caffe."""
    first, offset = plan.cells
    cells = np.take(offset, choice, mode="clip")  # the other modes check or copy first: ten times as long
    cells += first
    cells += np.arange(0, dx.size, max(1, prod(dx.shape[1:])))[:, None, None, None]
    if not choice.min(initial=1):  # an empty window
        cells, dy = cells[choice > 0], dy[choice > 0]
    target = dx if dx.flags.c_contiguous else np.empty(dx.shape, dx.dtype)
    target[...] = 0
    flat = target.reshape(-1)
    if all(s >= k for s, k in zip(plan.window.stride, plan.window.kernel)):
        flat[cells.reshape(-1)] = dy.reshape(-1)
    else:
        np.add.at(flat, cells.reshape(-1), dy.reshape(-1))
    if target is not dx:
        dx[...] = target


def ave_pool(x, y, plan: PoolPlan) -> None:
    """Sum of each window over its area cut at in + pad; rows first, then columns."""
    n, _, width, channels = x.shape
    rows = np.zeros((n, plan.out[0], width, channels), x.dtype)
    for outputs, cells in plan.reach[0]:
        rows[:, outputs] += x[:, cells]
    y[...] = 0
    for outputs, cells in plan.reach[1]:
        y[:, :, outputs] += rows[:, :, cells]
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty window is 0 / 0, as in Caffe
        y /= plan.areas


def ave_pool_grad(dy, dx, plan: PoolPlan) -> None:
    n, _, width, channels = dx.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        share = dy / plan.areas
    rows = np.zeros((n, plan.out[0], width, channels), dx.dtype)
    for outputs, cells in plan.reach[1]:
        rows[:, :, cells] += share[:, :, outputs]
    dx[...] = 0
    for outputs, cells in plan.reach[0]:
        dx[:, cells] += rows[:, outputs]


def stochastic_draw(x, y, choice, level, plan: PoolPlan) -> None:
    """The first value of each window whose running sum reaches `level` times the window's sum.

    `choice` as `max_pool` has it. x is not negative (Zeiler and Fergus 2013; Caffe's GPU kernel).
    """
    threshold = level * _window_sum(x, plan)
    y[...], choice[...] = 0, 0
    total = np.zeros(y.shape, x.dtype)
    for number, (at, cells) in enumerate(plan.positions(), 1):
        values = x[cells]
        total[at] += values
        reached = (total[at] >= threshold[at]) & (choice[at] == 0)
        np.copyto(y[at], values, where=reached)
        np.copyto(choice[at], number, where=reached, casting="unsafe")


def stochastic_mean(x, y, plan: PoolPlan) -> None:
    """sum x^2 / sum x of each window, 0 where the sum is not positive."""
    total = _window_sum(x, plan)
    positive = total > 0
    y[...] = 0
    np.divide(_window_sum(x * x, plan), total, out=y, where=positive)


def _window_sum(x, plan: PoolPlan) -> np.ndarray:
    total = np.zeros((len(x), *plan.out, x.shape[3]), x.dtype)
    for at, cells in plan.positions():
        total[at] += x[cells]
    return total


def mask(choice, plan: PoolPlan) -> np.ndarray:
    """`choice` as Caffe's mask: the index within H * W of each window's largest value, -1 where there is none."""
    window, number = plan.window, choice.astype(np.int64) - 1
    row, column = np.divmod(number, window.kernel[1])
    oh, ow = (np.arange(m) * s - p for m, s, p in zip(plan.out, window.stride, window.pad))
    index = (row + oh[:, None, None]) * plan.size[1] + column + ow[:, None]
    return np.where(number < 0, -1, index)
