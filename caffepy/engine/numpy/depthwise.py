"""Convolution with a filter of its own for each channel, without columns: one einsum over the taps.

Arrays are channels-last: x (N, H, W, C), y (N, h, w, C), weights (C, kh, kw, 1). Whole rows are the unit: a tap is
its C weights repeated along a row, so that numpy's inner loop, a fused multiply-add, runs over a row and not over the
channels of one position. MobileNet's first such layer (112 x 112 x 32, 3 x 3) takes 0.6 ms on one core, as a product
for each group it took 23. Where the stride is 2, every column is computed and every second kept, which is faster than
sorting the columns first.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.numpy.lowering import TILE_BYTES, Run, Scratch, Tile, add_to_rows, bordered, sum_of_rows, tiles
from caffepy.engine.window import Ints, Window

LARGEST_STRIDE = 2


def fits(w, window: Window, group: int) -> bool:
    """Whether each of several channels has one filter, over two spatial axes."""
    return len(window.kernel) == 2 and w.shape[0] == group > 1 == w.shape[-1]


def fits_forward(w, window: Window, group: int) -> bool:
    """`fits`, and not too many of the columns that `forward` and `grad_weights` compute would be dropped."""
    return fits(w, window, group) and window.stride[1] <= LARGEST_STRIDE


def forward(x, w, bias, y, window: Window, run: Run, scratch: Scratch, threads: int) -> None:
    """y = x * w + bias, each channel on its own."""
    n, height, _, channels = y.shape
    step, wide = window.stride[1], _columns(y, window)
    taps = _along_rows(np.moveaxis(w[..., 0], 0, -1), wide)
    work = tiles(n, height, 4 * wide * channels, w.nbytes, threads)

    def task(i: int) -> None:
        tile = work[i]
        target = y[tile.images, tile.rows]
        whole = step == 1 and target.flags.c_contiguous
        out = target if whole else scratch("outputs", (*tile.shape, wide, channels))
        windows = _windows(_seen(x, tile, window, scratch), window, tile.shape[1], wide)
        np.einsum("npqrx,pqx->nrx", windows, taps, out=out.reshape(*tile.shape, -1))
        if bias is not None:
            add_to_rows(out.reshape(-1, channels), bias)
        if not whole:
            target[...] = out[:, :, ::step]

    run(task, len(work))


def grad_weights(x, dy, dw, db, window: Window, run: Run, scratch: Scratch, threads: int) -> None:
    """dw += the gradient of the weights, db, if any, += that of the bias."""
    n, height, _, channels = dy.shape
    step, wide = window.stride[1], _columns(dy, window)
    work = tiles(n, height, 4 * wide * channels, dw.nbytes, threads)
    parts = min(threads, len(work))
    sums, bias_sums = np.zeros((parts, *window.kernel, channels), dw.dtype), np.zeros((parts, channels), dw.dtype)

    def task(part: int) -> None:
        products = scratch("dw", (*window.kernel, wide * channels))
        for tile in work[part * len(work) // parts : (part + 1) * len(work) // parts]:
            given = dy[tile.images, tile.rows]
            if db is not None:
                bias_sums[part] += sum_of_rows(given.reshape(-1, channels))
            if step > 1:  # a gradient of zero for the columns in between
                between = scratch("outputs", (*tile.shape, wide, channels))
                between[...] = 0
                between[:, :, ::step] = given
                given = between
            windows = _windows(_seen(x, tile, window, scratch), window, tile.shape[1], wide)
            np.einsum("npqrx,nrx->pqx", windows, given.reshape(*tile.shape, -1), out=products)
            sums[part] += products.reshape(*window.kernel, wide, channels).sum(axis=2)

    run(task, parts)
    dw[..., 0] += np.moveaxis(sums.sum(axis=0), -1, 0)
    if db is not None:
        db += bias_sums.sum(axis=0)


def grad_data(dy, w, bias, dx, window: Window, run: Run, scratch: Scratch, threads: int) -> None:
    """dx = the gradient of the input (+ bias): for strides of s and t, s x t convolutions of dy with stride 1."""
    n = len(dx)
    images = max(1, min(-(-n // threads), TILE_BYTES // max(1, dx[:1].nbytes)))
    phases = list(product(*(range(stride) for stride in window.stride)))
    work = [(slice(i, min(n, i + images)), phase) for i in range(0, n, images) for phase in phases]

    def task(i: int) -> None:
        chunk, phase = work[i]
        _grad_of_phase(dy[chunk], w[..., 0], bias, dx[chunk], window, phase, scratch)

    run(task, len(work))


class _Phase(NamedTuple):
    """Every s-th cell of an axis of dx, and the taps that reach it: cell i sees dy[i - shift] through each."""

    cells: slice
    length: int
    taps: list[int]
    first: int
    """Index in dy of what the first cell sees through the first of `taps`, whose shifts fall by `step`."""
    step: int


def _phase(window: Window, axis: int, a: int, size: int) -> _Phase:
    """The cells whose index, counted with the padding, is `a` modulo the stride."""
    kernel, stride, pad, dilation = (values[axis] for values in window)
    i = -((a - pad) // stride)  # the first in the input is i * stride + a
    cells = slice(i * stride + a - pad, size, stride)
    taps = [k for k in reversed(range(kernel)) if (k * dilation - a) % stride == 0]
    shifts = [(k * dilation - a) // stride for k in taps]
    first, step = i - (shifts[0] if taps else 0), shifts[0] - shifts[1] if len(taps) > 1 else 1
    return _Phase(cells, len(range(*cells.indices(size))), taps, first, step)


def _grad_of_phase(dy, w, bias, dx, window: Window, phase: Ints, scratch: Scratch) -> None:
    rows, columns = (_phase(window, axis, a, dx.shape[axis + 1]) for axis, a in enumerate(phase))
    target = dx[:, rows.cells, columns.cells]
    if not rows.taps or not columns.taps:  # a stride above the kernel
        target[...] = 0 if bias is None else bias
        return
    taps = _along_rows(np.moveaxis(w[:, rows.taps][:, :, columns.taps], 0, -1), columns.length)
    whole = target.flags.c_contiguous
    out = target if whole else scratch("outputs", target.shape)
    windows = _windows_back(dy, rows, columns, scratch)
    np.einsum("npqrx,pqx->nrx", windows, taps, out=out.reshape(*target.shape[:2], -1))
    if bias is not None:
        add_to_rows(out.reshape(-1, out.shape[-1]), bias)
    if not whole:
        target[...] = out


def _windows_back(dy, rows: _Phase, columns: _Phase, scratch: Scratch):
    """For each tap the rows of dy that it sees, (n, taps down, taps across, rows, columns * C), a view."""
    n, _, width, channels = dy.shape
    reach = (len(columns.taps) - 1) * columns.step + columns.length
    beside = max(0, -columns.first, columns.first + reach - width)
    height = (len(rows.taps) - 1) * rows.step + rows.length
    source = _dense(bordered(dy, slice(0, n), rows.first, height, (beside,), scratch))
    source = source[:, :, columns.first + beside :]
    shape = (n, len(rows.taps), len(columns.taps), rows.length, columns.length * channels)
    image, row, column, value = source.strides
    return as_strided(source, shape, (image, row * rows.step, column * columns.step, row, value))


def _columns(y, window: Window) -> int:
    """How many columns are computed for those of y."""
    return max(0, (y.shape[2] - 1) * window.stride[1] + 1)


def _along_rows(taps, columns: int):
    """Taps (kh, kw, C) repeated for so many columns: (kh, kw, columns * C)."""
    kh, kw, channels = taps.shape
    return np.broadcast_to(taps[:, :, None], (kh, kw, columns, channels)).reshape(kh, kw, -1)


def _seen(x, tile: Tile, window: Window, scratch: Scratch):
    """What the tile's outputs see of x, with its border, columns and channels without holes."""
    start = tile.rows.start * window.stride[0] - window.pad[0]
    count = (tile.shape[1] - 1) * window.stride[0] + window.extent[0]
    return _dense(bordered(x, tile.images, start, count, window.pad[1:], scratch))


def _dense(x):
    """x, copied if its columns and channels do not follow each other in memory."""
    return x if x[:1, :1].flags.c_contiguous else np.ascontiguousarray(x)


def _windows(source, window: Window, rows: int, columns: int):
    """For each tap the rows that it sees, (n, kh, kw, rows, columns * C), a view."""
    n, _, _, channels = source.shape
    image, row, column, value = source.strides
    steps = (image, row * window.dilation[0], column * window.dilation[1], row * window.stride[0], value)
    return as_strided(source, (n, *window.kernel, rows, columns * channels), steps)
