"""Convolution in numpy: im2col into cache-sized tiles, one matrix product a tile, threads over tiles.

Everything here is channels-last: x (N, *size, C), y (N, *out, O), weights (O, *kernel, C / group). A tile is a range
of images, or a range of rows (of the first spatial axis) of one image, whose columns fit the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.window import Window

Run = Callable[[Callable[[int], None], int], None]
Scratch = Callable[[str, tuple[int, ...]], np.ndarray]

# Bytes of columns a tile. Tiles that fit the second-level cache would be 1 MB, but every numpy call ends in a wait for
# the interpreter lock: on two cores LeNet's conv2 took 8 ms backward with 1 MB, 2.8 ms with 8 MB.
TILE_BYTES = 8 << 20


class Tile(NamedTuple):
    images: slice
    rows: slice


def tiles(n: int, out: tuple[int, ...], depth: int, parts: int) -> list[Tile]:
    """Cut `n` images of `out` positions with columns of `depth` floats into at least `parts` tiles, if it goes."""
    per_image = max(1, prod(out)) * depth * 4
    all_rows = slice(0, out[0] if out else 1)
    images = min(TILE_BYTES // per_image, -(-n // parts))
    if images >= 1:
        return [Tile(slice(i, min(n, i + images)), all_rows) for i in range(0, n, images)]
    rows = max(1, TILE_BYTES * all_rows.stop // per_image)
    rows = -(-all_rows.stop // -(-all_rows.stop // rows))  # even out the last tile
    return [
        Tile(slice(i, i + 1), slice(r, min(all_rows.stop, r + rows)))
        for i in range(n)
        for r in range(0, all_rows.stop, rows)
    ]


def forward(x, w, bias, y, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """y = x * w + bias (cross-correlation)."""
    n, *out, _ = y.shape
    w = np.ascontiguousarray(w)
    work = tiles(n, tuple(out), w[0].size, threads)
    channels, outputs = x.shape[-1] // group, w.shape[0] // group
    matrices = [w[g * outputs : (g + 1) * outputs].reshape(outputs, -1).T for g in range(group)]

    def task(i: int) -> None:
        tile = work[i]
        target = y[tile.images, tile.rows] if out else y[tile.images]
        rows = target.size // y.shape[-1]
        flat = target.reshape(rows, y.shape[-1]) if target.flags.c_contiguous else scratch("y", (rows, y.shape[-1]))
        source = _padded(x, tile, window, scratch)
        for g, matrix in enumerate(matrices):
            cols = _columns(source, tile, out, window, slice(g * channels, (g + 1) * channels), scratch)
            np.matmul(cols, matrix, out=flat[:, g * outputs : (g + 1) * outputs])
        if bias is not None:
            add_to_rows(flat, bias)
        if not target.flags.c_contiguous:
            target[...] = flat.reshape(target.shape)

    run(task, len(work))


def add_to_rows(rows, bias) -> None:
    """rows (M, O) += bias (O,), several rows at a time: numpy's inner loop over O alone would be short."""
    repeat = gcd(len(rows), 1 << (1024 // bias.size).bit_length()) if bias.size else 1
    several = rows.reshape(len(rows) // max(1, repeat), -1)
    several += np.tile(bias, repeat)


def grad_weights(x, dy, dw, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dw += the gradient of the weights. Partial sums are added in a fixed order: same threads, same bits."""
    n, *out, _ = dy.shape
    depth = dw[0].size
    work = tiles(n, tuple(out), depth, threads)
    channels, outputs = x.shape[-1] // group, dw.shape[0] // group
    parts = min(threads, len(work))
    sums = np.zeros((parts, dw.shape[0], depth), dw.dtype)

    def task(part: int) -> None:
        product = scratch("dw", (outputs, depth))
        for tile in work[part * len(work) // parts : (part + 1) * len(work) // parts]:
            flat = (dy[tile.images, tile.rows] if out else dy[tile.images]).reshape(-1, dy.shape[-1])
            source = _padded(x, tile, window, scratch)
            for g in range(group):
                cols = _columns(source, tile, out, window, slice(g * channels, (g + 1) * channels), scratch)
                rows = slice(g * outputs, (g + 1) * outputs)
                np.matmul(flat[:, rows].T, cols, out=product)
                sums[part, rows] += product

    run(task, parts)
    for part in sums:
        dw += part.reshape(dw.shape)


def grad_data(dy, w, bias, dx, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dx = the gradient of the input (+ bias, for Deconvolution, whose forward pass this is)."""
    if _flipped_is_cheaper(dy, dx, window):
        # Stride 1: a convolution of dy with flipped kernels, without the scattered sums of col2im.
        flipped = w.reshape(group, w.shape[0] // group, *w.shape[1:])
        flipped = np.flip(np.moveaxis(flipped, (1, -1), (-1, 1)), tuple(range(2, w.ndim)))
        flipped = np.ascontiguousarray(flipped).reshape(-1, *flipped.shape[2:])
        back = window._replace(pad=tuple(e - 1 - p for e, p in zip(window.extent, window.pad)))
        forward(dy, flipped, bias, dx, back, group, run, scratch, threads)
    else:
        _scatter(dy, w, bias, dx, window, group, run, scratch, threads)


def _flipped_is_cheaper(dy, dx, window: Window) -> bool:
    if any(s != 1 for s in window.stride) or any(p >= e for p, e in zip(window.pad, window.extent)):
        return False
    # It multiplies at every input position, col2im at every output position but with sums after it.
    return prod(dx.shape[1:-1]) <= 1.5 * prod(dy.shape[1:-1])


def _scatter(dy, w, bias, dx, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dx by col2im: columns of gradients, then one strided sum a kernel position."""
    n, *out, _ = dy.shape
    size = dx.shape[1:-1]
    w = np.ascontiguousarray(w)
    channels, outputs = dx.shape[-1] // group, w.shape[0] // group
    work = tiles(n, tuple(out), w[0].size, threads)
    if not work:
        return
    images = max(1, work[0].images.stop)
    padded_size = tuple(s + 2 * p for s, p in zip(size, window.pad))
    inside = tuple(slice(p, p + s) for s, p in zip(size, window.pad))
    bands = sorted({(t.rows.start, t.rows.stop) for t in work})

    def task(i: int) -> None:
        chunk = slice(i * images, min(n, (i + 1) * images))
        count = chunk.stop - chunk.start
        padded = scratch("dx", (count, *padded_size, dx.shape[-1]))
        padded[...] = 0
        for first, last in bands:
            shape = (count, last - first, *out[1:]) if out else (count,)
            source = (dy[chunk, first:last] if out else dy[chunk]).reshape(-1, dy.shape[-1])
            for g in range(group):
                rows = slice(g * outputs, (g + 1) * outputs)
                cols = scratch("cols", (source.shape[0], w[0].size))
                np.matmul(source[:, rows], w[rows].reshape(outputs, -1), out=cols)
                cols = cols.reshape(*shape, *window.kernel, channels)
                region = padded[..., g * channels : (g + 1) * channels]
                _add_columns(cols, region, first, shape[1:], window)
        target = padded[(slice(None), *inside)]
        if bias is None:
            dx[chunk] = target
        else:
            np.add(target, bias, out=dx[chunk])

    run(task, -(-n // images))


def _add_columns(cols, region, first: int, out: tuple[int, ...], window: Window) -> None:
    """Add the columns of output rows from `first` on into `region`, the padded input."""
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


def _padded(x, tile: Tile, window: Window, scratch: Scratch):
    """The input of a tile with its zero border: a view of x where there is none."""
    if not window.pad:
        return x[tile.images]
    start = tile.rows.start * window.stride[0] - window.pad[0]
    stop = (tile.rows.stop - 1) * window.stride[0] - window.pad[0] + window.extent[0]
    if not any(window.pad):
        return x[tile.images, start:stop]
    n, size = tile.images.stop - tile.images.start, x.shape[1:-1]
    sides = tuple(s + 2 * p for s, p in zip(size[1:], window.pad[1:]))
    buffer = scratch("padded", (n, stop - start, *sides, x.shape[-1]))
    buffer[...] = 0
    low, high = max(0, start), min(size[0], stop)
    inside = tuple(slice(p, p + s) for s, p in zip(size[1:], window.pad[1:]))
    if high > low:
        buffer[(slice(None), slice(low - start, high - start), *inside)] = x[tile.images, low:high]
    return buffer


def _columns(source, tile: Tile, out, window: Window, channels: slice, scratch: Scratch) -> np.ndarray:
    """im2col: (rows, kernel * channels), a view where kernel and stride are 1 and memory allows."""
    source = source[..., channels]
    n, *_, c = source.shape
    shape = (n, tile.rows.stop - tile.rows.start, *out[1:]) if out else (n,)
    if all(k == 1 for k in window.kernel) and all(s == 1 for s in window.stride):
        return source.reshape(prod(shape), c)
    spatial = source.strides[1:-1]
    windows = as_strided(
        source,
        (*shape, *window.kernel, c),
        (
            source.strides[0],
            *(a * s for a, s in zip(spatial, window.stride)),
            *(a * d for a, d in zip(spatial, window.dilation)),
            source.strides[-1],
        ),
    )
    depth = prod(window.kernel) * c
    if c == 1 and n * shape[-1] > 1:
        # One channel: copy runs along a row of the image, not of the kernel, and hand BLAS the transpose.
        turned = scratch("cols", (depth, prod(shape)))
        axes = (*range(len(shape), windows.ndim - 1), *range(len(shape)))
        turned.reshape(*window.kernel, *shape)[...] = windows[..., 0].transpose(axes)
        return turned.T
    cols = scratch("cols", (prod(shape), depth))
    cols.reshape(windows.shape)[...] = windows
    return cols
