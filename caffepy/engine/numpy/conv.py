"""Convolution in numpy: filtered where that saves products, else columns in tiles and one product a tile.

Everything here is channels-last: x (N, *size, C), y (N, *out, O), weights (O, *kernel, C / group). Threads share the
tiles: ranges of images, or ranges of rows (of the first spatial axis) of one image.
"""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.engine.numpy import depthwise, winograd
from caffepy.engine.numpy.lowering import (
    Run,
    Scratch,
    Tile,
    add_columns,
    add_to_rows,
    bordered,
    columns,
    sum_of_rows,
    tiles,
)
from caffepy.engine.window import Ints, Window


def forward(x, w, bias, y, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """y = x * w + bias (cross-correlation)."""
    if depthwise.fits_forward(w, window, group):
        depthwise.forward(x, w, bias, y, window, run, scratch, threads)
        return
    n, *out, _ = y.shape
    if plan := winograd.plan(window, tuple(out), w.shape[-1]):
        winograd.forward(x, w, bias, y, plan, group, run, scratch, threads)
        return
    w = np.ascontiguousarray(w)
    work = _tiles(n, tuple(out), w, threads)
    channels, outputs = x.shape[-1] // group, w.shape[0] // group
    matrices = [w[g * outputs : (g + 1) * outputs].reshape(outputs, -1).T for g in range(group)]

    def task(i: int) -> None:
        tile = work[i]
        target = y[tile.images, tile.rows] if out else y[tile.images]
        rows = target.size // y.shape[-1]
        whole = target.flags.c_contiguous
        flat = target.reshape(rows, -1) if whole else scratch("outputs", (rows, y.shape[-1]))
        source, shape = _seen(x, tile, out, window, scratch)
        for g, matrix in enumerate(matrices):
            lowered = columns(source[..., g * channels : (g + 1) * channels], shape, window, scratch)
            np.matmul(lowered, matrix, out=flat[:, g * outputs : (g + 1) * outputs])
        if bias is not None:
            add_to_rows(flat, bias)
        if not whole:
            target[...] = flat.reshape(target.shape)

    run(task, len(work))


def grad_weights(x, dy, dw, db, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dw += the gradient of the weights, db, if any, += that of the bias.

    Partial sums are added in a fixed order: same threads, same bits.
    """
    if depthwise.fits_forward(dw, window, group):
        depthwise.grad_weights(x, dy, dw, db, window, run, scratch, threads)
        return
    n, *out, _ = dy.shape
    if plan := winograd.plan(window, tuple(out), dw.shape[-1]):
        winograd.grad_weights(x, dy, dw, db, plan, group, run, scratch, threads)
        return
    depth = dw[0].size
    work = _tiles(n, tuple(out), dw, threads)
    channels, outputs = x.shape[-1] // group, dw.shape[0] // group
    parts = min(threads, len(work))
    sums = np.zeros((parts, dw.shape[0], depth), dw.dtype)
    bias_sums = np.zeros((parts, dw.shape[0]), dw.dtype)

    def task(part: int) -> None:
        product = scratch("dw", (outputs, depth))
        for tile in work[part * len(work) // parts : (part + 1) * len(work) // parts]:
            flat = (dy[tile.images, tile.rows] if out else dy[tile.images]).reshape(-1, dy.shape[-1])
            if db is not None:
                bias_sums[part] += sum_of_rows(flat)
            source, shape = _seen(x, tile, out, window, scratch)
            for g in range(group):
                lowered = columns(source[..., g * channels : (g + 1) * channels], shape, window, scratch)
                rows = slice(g * outputs, (g + 1) * outputs)
                np.matmul(flat[:, rows].T, lowered, out=product)
                sums[part, rows] += product

    run(task, parts)
    for part in sums:
        dw += part.reshape(dw.shape)
    if db is not None:
        db += bias_sums.sum(axis=0)


def grad_data(dy, w, bias, dx, window: Window, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dx = the gradient of the input (+ bias, for Deconvolution, whose forward pass this is)."""
    if depthwise.fits(w, window, group):
        depthwise.grad_data(dy, w, bias, dx, window, run, scratch, threads)
    elif _flipped_is_cheaper(dy, dx, window):
        # Stride 1: a convolution of dy with flipped kernels, without the scattered sums of col2im.
        flipped = w.reshape(group, w.shape[0] // group, *w.shape[1:])
        flipped = np.flip(np.moveaxis(flipped, (1, -1), (-1, 1)), tuple(range(2, w.ndim)))
        flipped = np.ascontiguousarray(flipped).reshape(-1, *flipped.shape[2:])
        back = window._replace(pad=tuple(e - 1 - p for e, p in zip(window.extent, window.pad)))
        forward(dy, flipped, bias, dx, back, group, run, scratch, threads)
    elif plan := winograd.plan(window, dy.shape[1:-1], w.shape[-1]):
        winograd.grad_data(dy, w, bias, dx, plan, group, run, scratch, threads)
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
    work = _tiles(n, tuple(out), w, threads)
    if not work:
        return
    images = max(1, work[0].images.stop)
    padded_size = tuple(s + 2 * p for s, p in zip(size, window.pad))
    inside = tuple(slice(p, p + s) for s, p in zip(size, window.pad))
    bands = sorted({(t.rows.start, t.rows.stop) for t in work})

    def task(i: int) -> None:
        chunk = slice(i * images, min(n, (i + 1) * images))
        count = chunk.stop - chunk.start
        padded = scratch("bordered", (count, *padded_size, dx.shape[-1]))
        padded[...] = 0
        for first, last in bands:
            shape = (count, last - first, *out[1:]) if out else (count,)
            source = (dy[chunk, first:last] if out else dy[chunk]).reshape(-1, dy.shape[-1])
            for g in range(group):
                rows = slice(g * outputs, (g + 1) * outputs)
                cols = scratch("columns", (source.shape[0], w[0].size))
                np.matmul(source[:, rows], w[rows].reshape(outputs, -1), out=cols)
                cols = cols.reshape(*shape, *window.kernel, channels)
                region = padded[..., g * channels : (g + 1) * channels]
                add_columns(cols, region, window, first)
        target = padded[(slice(None), *inside)]
        if bias is None:
            dx[chunk] = target
        else:
            np.add(target, bias, out=dx[chunk])

    run(task, -(-n // images))


def _tiles(n: int, out: Ints, w, parts: int) -> list[Tile]:
    """Tiles of output rows, measured by their columns."""
    return tiles(n, out[0] if out else 1, prod(out[1:]) * w[0].nbytes, w.nbytes, parts)


def _seen(x, tile: Tile, out, window: Window, scratch: Scratch):
    """What the tile's outputs see of x, with its border, and the spatial shape of those outputs."""
    if not out:
        return x[tile.images], ()
    rows = tile.shape[1]
    start = tile.rows.start * window.stride[0] - window.pad[0]
    count = (rows - 1) * window.stride[0] + window.extent[0]
    return bordered(x, tile.images, start, count, window.pad[1:], scratch), (rows, *out[1:])
