"""The gradient of a depthwise convolution's input by phases: cells of dx whose index is the same modulo the stride.

All cells of a phase see dy through the same taps, so that each phase is a convolution of stride 1. Arrays are
channels-last: dy (N, h, w, C), dx (N, H, W, C), weights (C, kh, kw).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.numpy.lowering import Scratch, add_to_rows, bordered, dense
from caffepy.engine.window import Ints, Window


class Phase(NamedTuple):
    """Every s-th cell of an axis of dx, and the taps that reach it: cell i sees dy[i - shift] through each."""

    cells: slice
    length: int
    taps: list[int]
    first: int
    """Index in dy of what the first cell sees through the first of `taps`, whose shifts fall by `step`."""
    step: int

    @staticmethod
    def of(window: Window, axis: int, a: int, size: int) -> Phase:
        """The cells whose index, counted with the padding, is `a` modulo the stride."""
        kernel, stride, pad, dilation = (values[axis] for values in window)
        i = -((a - pad) // stride)  # the first in the input is i * stride + a
        cells = slice(i * stride + a - pad, size, stride)
        taps = [k for k in reversed(range(kernel)) if (k * dilation - a) % stride == 0]
        shifts = [(k * dilation - a) // stride for k in taps]
        first, step = i - (shifts[0] if taps else 0), shifts[0] - shifts[1] if len(taps) > 1 else 1
        return Phase(cells, len(range(*cells.indices(size))), taps, first, step)


def grad_of_phase(dy, w, bias, dx, window: Window, phase: Ints, scratch: Scratch) -> None:
    """The cells of dx of this phase, a number for each axis, = the gradient of the input (+ bias)."""
    rows, columns = (Phase.of(window, axis, a, dx.shape[axis + 1]) for axis, a in enumerate(phase))
    target = dx[:, rows.cells, columns.cells]
    if not rows.taps or not columns.taps:  # a stride above the kernel
        target[...] = 0 if bias is None else bias
        return
    taps = along_rows(np.moveaxis(w[:, rows.taps][:, :, columns.taps], 0, -1), columns.length)
    whole = target.flags.c_contiguous
    out = target if whole else scratch("outputs", target.shape)
    windows = _windows(dy, rows, columns, scratch)
    np.einsum("npqrx,pqx->nrx", windows, taps, out=out.reshape(*target.shape[:2], -1))
    if bias is not None:
        add_to_rows(out.reshape(-1, out.shape[-1]), bias)
    if not whole:
        target[...] = out


def along_rows(taps, columns: int):
    """Taps (kh, kw, C) repeated for so many columns: (kh, kw, columns * C)."""
    kh, kw, channels = taps.shape
    return np.broadcast_to(taps[:, :, None], (kh, kw, columns, channels)).reshape(kh, kw, -1)


def _windows(dy, rows: Phase, columns: Phase, scratch: Scratch):
    """For each tap the rows of dy that it sees, (n, taps down, taps across, rows, columns * C), a view."""
    n, _, width, channels = dy.shape
    reach = (len(columns.taps) - 1) * columns.step + columns.length
    beside = max(0, -columns.first, columns.first + reach - width)
    height = (len(rows.taps) - 1) * rows.step + rows.length
    source = dense(bordered(dy, slice(0, n), rows.first, height, (beside,), scratch))
    source = source[:, :, columns.first + beside :]
    shape = (n, len(rows.taps), len(columns.taps), rows.length, columns.length * channels)
    image, row, column, value = source.strides
    return as_strided(source, shape, (image, row * rows.step, column * columns.step, row, value))
