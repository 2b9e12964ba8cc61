"""Pooling in numpy. Arrays are channels-last, (N, H, W, C); every statement runs over contiguous channels."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from caffepy.engine.window import Ints, Window

FLOAT_MAX = np.finfo(np.float32).max


# With fewer channels than this, numpy's inner loops over them are too short to pay for their start.
FEW_CHANNELS = 96
# With more positions than this in a kernel, gradients are scattered one by one.
LARGE_KERNEL = 64


def max_pool(x, y, choice, window: Window) -> None:
    """Largest value of each window and, in `choice`, 1 + the kernel position it came from (0: an empty window).

    Along the rows first, then across them: the first in row order wins a tie, as in Caffe.
    """
    (out_height, out_width), (kernel_height, kernel_width) = y.shape[1:3], window.kernel
    source = _Cells(x, y.shape, window)
    source.read(border=-FLOAT_MAX)
    label = choice.dtype.type
    columns = [source.seen_by(k, out_width) for k in range(kernel_width)]
    # An array of ones: numpy's maximum of a number and an array takes twenty times as long.
    first = np.ones(columns[0].shape, choice.dtype)
    best, number = _running_max((x, first if k == 1 else label(k)) for k, x in enumerate(columns, 1))
    rows = [slice(k, k + (out_height - 1) * window.stride[0] + 1, window.stride[0]) for k in range(kernel_height)]
    _running_max(
        ((best[:, row], np.add(number[:, row], label(k * kernel_width))) for k, row in enumerate(rows)),
        out=(y, choice),
    )
    if source.has_border:
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


class _Cells:
    """An image with the border that all windows need, for ranges of it that windows see at one kernel position.

    With few channels the columns are sorted by their remainder modulo the stride: then such a range is contiguous in
    a row, and numpy's inner loops run over rows instead of channels.
    """

    def __init__(self, image, out, window: Window):
        self.image, self.pad = image, window.pad
        n, height, width, channels = image.shape
        needed = [(m - 1) * s + k for m, s, k in zip(out[1:3], window.stride, window.kernel)]
        self.phases = window.stride[1] if channels < FEW_CHANNELS else 1
        self.step = window.stride[1] // self.phases
        self.has_border = any(window.pad) or needed[0] > height or needed[1] > width
        self.is_image = self.phases == 1 and not self.has_border
        if self.is_image:
            self.values = image[:, :, None]
        else:
            shape = (n, needed[0], self.phases, -(-needed[1] // self.phases), channels)
            self.values = np.empty(shape, image.dtype)

    def seen_by(self, column: int, count: int):
        """What kernel column `column` sees for each of `count` outputs a row: (n, rows, count, C)."""
        first = column // self.phases
        return self.values[:, :, column % self.phases, first : first + (count - 1) * self.step + 1 : self.step]

    def read(self, border: float) -> None:
        """Take the image over, and set its border."""
        for cells, image in self._copies():
            cells[...] = image
        if self.has_border:
            height, width = self.image.shape[1:3]
            self.values[:, : self.pad[0]] = border
            self.values[:, self.pad[0] + height :] = border
            for phase in range(self.phases):
                first = self._first(phase)
                self.values[:, :, phase, :first] = border
                self.values[:, :, phase, -(-(self.pad[1] + width - phase) // self.phases) :] = border

    def write(self) -> None:
        """Back into the image; what no window sees becomes 0."""
        if self.is_image:
            return
        _, rows, _, columns, _ = self.values.shape
        if self.image.shape[1] > rows - self.pad[0] or self.image.shape[2] > columns * self.phases - self.pad[1]:
            self.image[...] = 0
        for cells, image in self._copies():
            image[...] = cells

    def _first(self, phase: int) -> int:
        """The first column of a phase that lies in the image."""
        return max(0, -(-(self.pad[1] - phase) // self.phases))

    def _copies(self):
        """Pairs of views: each phase without its border, and the same cells of the image."""
        if self.is_image:
            return
        (top, left), phases = self.pad, self.phases
        for phase in range(phases):
            first = self._first(phase)
            image = self.image[:, : self.values.shape[1] - top, first * phases + phase - left :: phases]
            cells = self.values[:, top : top + image.shape[1], phase, first : first + image.shape[2]]
            yield cells, image[:, :, : cells.shape[2]]


def max_pool_grad(dy, choice, dx, window: Window) -> None:
    """Each gradient goes where its value came from."""
    apart = all(s >= k for s, k in zip(window.stride, window.kernel))
    if apart and prod(window.kernel) > LARGE_KERNEL:
        _scatter(dy, choice, dx, window)
        return
    out_height, out_width = dy.shape[1:3]
    target = _Cells(dx, dy.shape, window)
    height, width = window.stride
    if window.kernel[0] >= height and window.kernel[1] >= width:
        # The first `stride` positions of the kernel reach every cell once, but for those that remain at the end.
        target.values[:, height * out_height :] = 0
        target.values[:, :, :, width * out_width // target.phases :] = 0
    else:
        target.values[...] = 0
    for number, (row, column) in enumerate(np.ndindex(*window.kernel), 1):
        rows = slice(row, row + (out_height - 1) * height + 1, height)
        cells = target.seen_by(column, out_width)[:, rows]
        if row < height and column < width:
            np.multiply(dy, choice == number, out=cells)
        else:
            cells += dy * (choice == number)
    target.write()


def _scatter(dy, choice, dx, window: Window) -> None:
    """max_pool_grad for few large windows that do not overlap: one assignment instead of one a kernel position."""
    dx[...] = 0
    index = mask(choice, window, dx.shape[1:3])
    item, row, column, channel = np.nonzero(index >= 0)
    cells = index[item, row, column, channel]
    dx[item, cells // dx.shape[2], cells % dx.shape[2], channel] = dy[item, row, column, channel]


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
