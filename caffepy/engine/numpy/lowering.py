"""The zero border of images and their columns (im2col); sums of rows. Arrays are channels-last, (N, *size, C)."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.window import Ints, Window

Scratch = Callable[[str, tuple[int, ...]], np.ndarray]


def bordered(x, images: slice, start: int, count: int, pad: Ints, scratch: Scratch):
    """`count` rows of some images from row `start` on, which may lie outside, with `pad` zeros beside the other axes.

    A view of x where nothing is outside.
    """
    stop, height = start + count, x.shape[1]
    if start >= 0 and stop <= height and not any(pad):
        return x[images, start:stop]
    inside = tuple(slice(p, p + size) for p, size in zip(pad, x.shape[2:-1]))
    shape = (images.stop - images.start, count, *(size + 2 * p for p, size in zip(pad, x.shape[2:-1])), x.shape[-1])
    buffer = scratch("bordered", shape)
    low, high = max(0, start), max(0, min(height, stop))
    buffer[:, : low - start] = 0
    buffer[:, max(0, high - start) :] = 0
    for axis, p in enumerate(pad, 2):
        if p:
            turned = buffer[:, low - start : max(low, high) - start].swapaxes(1, axis)
            turned[:, :p] = turned[:, -p:] = 0
    if high > low:
        buffer[(slice(None), slice(low - start, high - start), *inside)] = x[images, low:high]
    return buffer


def dense(x):
    """x, copied if its columns and channels do not follow each other in memory."""
    return x if x[:1, :1].flags.c_contiguous else np.ascontiguousarray(x)


def columns(source, out: Ints, window: Window, scratch: Scratch) -> np.ndarray:
    """The windows of `source`, which has its border, one a row: (n * prod(out), prod(kernel) * C).

    A view where kernel and stride are 1 and memory allows.
    """
    n, *_, c = source.shape
    if all(k == 1 for k in window.kernel) and all(s == 1 for s in window.stride):
        return source.reshape(n * prod(out), c)
    along = source.strides[1:-1]
    steps = (a * s for a, s in zip(along, window.stride))
    inner = (a * d for a, d in zip(along, window.dilation))
    windows = as_strided(source, (n, *out, *window.kernel, c), (source.strides[0], *steps, *inner, source.strides[-1]))
    depth, rows = prod(window.kernel) * c, n * prod(out)
    if c == 1 and rows > 1:
        # One channel: copy runs along a row of the image, not of the kernel, and hand BLAS the transpose.
        turned = scratch("columns", (depth, rows))
        axes = (*range(1 + len(out), windows.ndim - 1), *range(1 + len(out)))
        turned.reshape(*window.kernel, n, *out)[...] = windows[..., 0].transpose(axes)
        return turned.T
    lowered = scratch("columns", (rows, depth))
    lowered.reshape(windows.shape)[...] = windows
    return lowered


def add_columns(cols, region, window: Window, first: int = 0) -> None:
    """Add columns (n, *out, *kernel, C), of output rows from `first` on, into `region`, an input with its border."""
    out = cols.shape[1 : -1 - len(window.kernel)]
    if not out:
        region += cols
        return
    starts = (first * window.stride[0], *[0] * len(out[1:]))
    channels = cols.shape[-1]
    if channels < 48 and out[-1] < 8 * window.kernel[-1]:
        # Few channels: go through output columns, so that the sums run over a row of the kernel, not over channels.
        # LeNet's conv2 (20 channels, 5x5): 2.1 instead of 5.9 ms.
        k, s, d = window.kernel[-1], window.stride[-1], window.dilation[-1]
        for position in np.ndindex(*window.kernel[:-1]):
            cells = _cells(starts, position, out[:-1], window)
            for o in range(out[-1]):
                left = starts[-1] + o * s
                run = slice(left, left + (k - 1) * d + 1, d)
                region[(slice(None), *cells, run)] += cols[(..., o, *position, slice(None), slice(None))]
    else:
        for position in np.ndindex(*window.kernel):
            cells = _cells(starts, position, out, window)
            region[(slice(None), *cells)] += cols[(..., *position, slice(None))]


def _cells(starts, position, out, window: Window) -> tuple[slice, ...]:
    """The input cells that a kernel position sees from outputs of shape `out`, for the leading axes of `out`."""
    return tuple(
        slice(o + k * d, o + k * d + (m - 1) * s + 1, s)
        for o, k, d, m, s in zip(starts, position, window.dilation, out, window.stride)
    )


def add_to_rows(rows, bias) -> None:
    """rows (M, O) += bias (O,), several rows at a time: numpy's inner loop over O alone would be short."""
    repeat = gcd(len(rows), 1 << (1024 // bias.size).bit_length()) if bias.size else 1
    several = rows.reshape(len(rows) // max(1, repeat), -1)
    several += np.tile(bias, repeat)


def sum_of_rows(rows) -> np.ndarray:
    """The sum (C,) of rows (M, C).

    BLAS sums four times as fast as numpy, and twice as fast again with several rows joined, whose partial sums also
    keep the rounding error small.
    """
    several = gcd(len(rows), 64) if len(rows) > 1024 else 1
    joined = rows.reshape(len(rows) // several, several * rows.shape[1])
    return np.matmul(np.ones(len(joined), np.float32), joined).reshape(several, rows.shape[1]).sum(axis=0)
