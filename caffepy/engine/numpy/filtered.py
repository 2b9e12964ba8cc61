"""Convolution by Winograd's filtering: transforms of whole rows, and products with columns of the other axes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.numpy.filtering import POINTS
from caffepy.engine.numpy.lowering import Scratch, add_columns, add_to_rows, bordered, columns, sum_of_rows
from caffepy.engine.numpy.shapes import Shapes
from caffepy.engine.numpy.tail import NONE, Tail
from caffepy.engine.numpy.tiles import ImageTile, cut
from caffepy.engine.numpy.winograd import WinogradPlan
from caffepy.engine.threads import ThreadPool

# Bytes of columns that are multiplied in one call.
COLUMN_BYTES = 2 << 20


class Filtered:
    """The three products of a convolution, for arrays of these shapes. A tile's rows are groups of m output rows."""

    def __init__(self, shapes: Shapes, plan: WinogradPlan):
        self.shapes, self.groups, self.plan = shapes, shapes.groups(), plan
        row = shapes.group * shapes.channels * plan.stride * prod(shapes.size[1:])
        row += shapes.group * shapes.outputs * prod(shapes.out[1:])
        self.tiles = shapes.tiles(plan.groups_of_rows, 4 * plan.n * row)
        self.shares = [self.tiles[some] for some in cut(len(self.tiles), shapes.shares)]
        # Of the gradient of the input, which takes whole images: groups of rows overlap.
        images = max(1, self.tiles[0].images.stop) if self.tiles else 1
        self.chunks = [
            ImageTile(slice(i, min(shapes.items, i + images)), slice(0, plan.groups_of_rows))
            for i in range(0, shapes.items, images)
        ]

    def forward(self, x, w, bias, y, threads: ThreadPool, tail: Tail = NONE) -> None:
        """y = x * w + bias (cross-correlation), and what follows."""
        s, plan, scratch = self.shapes, self.plan, threads.scratch
        filters = np.matmul(plan.matrices.weights, _taps(w, plan))  # (O, n, depth)

        def task(i: int) -> None:
            tile = self.tiles[i]
            rows = slice(tile.rows.start * plan.m, tile.rows.stop * plan.m)
            target = y[tile.images, rows]
            for c, o in self.groups:
                source = _transformed(x[..., c], tile, plan, scratch)
                products = scratch("outputs", (plan.n, prod(tile.shape) * prod(plan.rest_out), s.outputs))
                taps = filters[o].transpose(1, 2, 0)
                for some, lowered in _lowered(source, plan, scratch):
                    np.matmul(lowered, taps[some], out=products[some])
                if bias is not None:
                    # What is added to the product at the point 1 is added to each of the m outputs.
                    add_to_rows(products[POINTS.index(1)], bias[o])
                _recover(products, tile, plan, target[..., o], scratch)
            tail.finish(target, tile.images, rows)

        threads.run(task, len(self.tiles))

    def grad_weights(self, x, dy, dw, db, threads: ThreadPool) -> None:
        """dw += the gradient of the weights, G^T [(B^T x) * (A dy)], db, if any, += that of the bias.

        The shares add up in their order.
        """
        plan, scratch = self.plan, threads.scratch
        depth = plan.stride * prod(dw.shape[2:])
        sums = np.empty((len(self.shares), plan.n, dw.shape[0], depth), dw.dtype)
        bias_sums = np.zeros((len(self.shares), dw.shape[0]), dw.dtype)

        def task(share: int) -> None:
            for number, tile in enumerate(self.shares[share]):
                for c, o in self.groups:
                    source = _transformed(x[..., c], tile, plan, scratch)
                    gradient = _spread(dy[..., o], tile, plan, scratch)
                    if db is not None:
                        # At the point 1, A dy is the sum of each m rows.
                        bias_sums[share, o] += sum_of_rows(gradient[POINTS.index(1)])
                    for some, lowered in _lowered(source, plan, scratch):
                        product = _products(gradient[some], lowered, scratch)
                        if number:
                            sums[share, some, o] += product
                        else:
                            sums[share, some, o] = product

        threads.run(task, len(self.shares))
        total = sums.sum(axis=0) if len(sums) != 1 else sums[0]
        taps = np.matmul(plan.matrices.weights.T, total.swapaxes(0, 1))  # (O, taps, depth)
        dw += taps.reshape(dw.shape[0], plan.taps * plan.stride, *dw.shape[2:])[:, : dw.shape[1]]
        if db is not None:
            db += bias_sums.sum(axis=0)

    def grad_data(self, dy, w, bias, dx, threads: ThreadPool) -> None:
        """dx = B [(A dy) * (G w)] + bias: the forward pass transposed, step by step."""
        s, plan, scratch = self.shapes, self.plan, threads.scratch
        filters = np.matmul(plan.matrices.weights, _taps(w, plan)).swapaxes(0, 1)  # (n, O, depth)
        pad = s.window.pad
        rest = tuple(size + 2 * p for size, p in zip(s.size[1:], pad[1:]))
        inside = tuple(slice(p, p + size) for p, size in zip(pad, s.size))
        interleaved = (plan.stride,) if plan.stride > 1 else ()
        seen = (plan.groups_of_rows - 1) * plan.m + plan.n
        blocks = max(seen, -(-(plan.pad + s.size[0]) // plan.stride))  # of `stride` rows

        def task(i: int) -> None:
            tile = self.chunks[i]
            for c, o in self.groups:
                gradient = _spread(dy[..., o], tile, plan, scratch)
                lowered = scratch("columns", (*gradient.shape[:2], filters.shape[2]))
                np.matmul(gradient, filters[:, o], out=lowered)
                total = _gathered(lowered, tile, plan, (*interleaved, *rest, s.channels), blocks, scratch)
                whole = total.reshape(len(total), blocks * plan.stride, *rest, s.channels)[(slice(None), *inside)]
                dx[tile.images][..., c] = whole if bias is None else whole + bias[c]

        threads.run(task, len(self.chunks))


def _taps(w, plan: WinogradPlan) -> np.ndarray:
    """The weights as (O, taps, depth), filled up with zeros to whole taps."""
    missing = plan.taps * plan.stride - w.shape[1]
    if missing:
        w = np.concatenate([w, np.zeros((w.shape[0], missing, *w.shape[2:]), w.dtype)], axis=1)
    return np.ascontiguousarray(w).reshape(w.shape[0], plan.taps, -1)


def _transformed(x, tile: ImageTile, plan: WinogradPlan, scratch: Scratch) -> np.ndarray:
    """B^T x: (n, groups of rows, [stride,] *rest, C)."""
    images, groups = tile.shape
    start = tile.rows.start * plan.m * plan.stride - plan.pad
    count = ((groups - 1) * plan.m + plan.n) * plan.stride
    pad = plan.rest.pad[-(x.ndim - 3) :] if x.ndim > 3 else ()
    source = _contiguous(bordered(x, tile.images, start, count, pad, scratch), scratch)
    length, row = plan.stride * prod(source.shape[2:]), source.strides[1] * plan.stride
    seen = as_strided(source, (images, groups, plan.n, length), (source.strides[0], plan.m * row, row, source.itemsize))
    out = scratch("transformed", (plan.n, images, groups, length))
    np.matmul(plan.matrices.inputs, seen, out=out.transpose(1, 2, 0, 3))
    interleaved = (plan.stride,) if plan.stride > 1 else ()
    return out.reshape(plan.n, images * groups, *interleaved, *source.shape[2:])


def _lowered(source, plan: WinogradPlan, scratch: Scratch) -> Iterator[tuple[slice, np.ndarray]]:
    """The columns (positions, depth) of each of the n transformed images, as many at a time as stay in cache."""
    n, rows, *size, channels = source.shape
    positions, depth = rows * prod(plan.rest_out), prod(plan.rest.kernel) * channels
    step = max(1, min(n, COLUMN_BYTES // (4 * positions * depth)))
    for start in range(0, n, step):
        some = slice(start, min(n, start + step))
        lowered = columns(source[some].reshape(-1, *size, channels), plan.rest_out, plan.rest, scratch)
        yield some, lowered.reshape(-1, positions, depth)


def _products(gradient, lowered, scratch: Scratch) -> np.ndarray:
    """gradient (n, positions, O) times lowered (n, positions, depth), summed over positions: (n, O, depth)."""
    n, _, outputs = gradient.shape
    depth = lowered.shape[2]
    if depth < outputs:  # BLAS likes it this way round: 42 instead of 31 GFLOP/s with 15 and 32
        product = scratch("product", (n, depth, outputs))
        return np.matmul(lowered.swapaxes(1, 2), gradient, out=product).swapaxes(1, 2)
    return np.matmul(gradient.swapaxes(1, 2), lowered, out=scratch("product", (n, outputs, depth)))


def _recover(products, tile: ImageTile, plan: WinogradPlan, target, scratch: Scratch) -> None:
    """target = A^T products; of the last group of rows some may be missing."""
    images, groups = tile.shape
    length = products[0].size // (images * groups)
    whole = target.flags.c_contiguous and target.shape[1] == groups * plan.m
    out = target.reshape(images, groups, plan.m, length) if whole else None
    if out is None:
        out = scratch("recovered", (images, groups, plan.m, length))
    np.matmul(plan.matrices.outputs, products.reshape(plan.n, images, groups, length).transpose(1, 2, 0, 3), out=out)
    if not whole:
        target[...] = out.reshape(images, groups * plan.m, *target.shape[2:])[:, : target.shape[1]]


def _spread(dy, tile: ImageTile, plan: WinogradPlan, scratch: Scratch) -> np.ndarray:
    """A dy: (n, positions, O); rows that an incomplete group lacks count as zero."""
    images, groups = tile.shape
    pad = (0,) * (dy.ndim - 3)
    source = _contiguous(bordered(dy, tile.images, tile.rows.start * plan.m, groups * plan.m, pad, scratch), scratch)
    length = source[0, 0].size
    out = scratch("outputs", (plan.n, images, groups, length))
    np.matmul(plan.matrices.outputs.T, source.reshape(images, groups, plan.m, length), out=out.transpose(1, 2, 0, 3))
    return out.reshape(plan.n, -1, dy.shape[-1])


def _gathered(
    lowered, tile: ImageTile, plan: WinogradPlan, size: tuple[int, ...], blocks: int, scratch: Scratch
) -> np.ndarray:
    """B of col2im of the columns (n, positions, depth), each row of shape `size`: (images, blocks, elements)."""
    images, groups = tile.shape
    transformed = scratch("transformed", (plan.n * images * groups, *size))
    transformed[...] = 0
    add_columns(lowered.reshape(len(transformed), *plan.rest_out, *plan.rest.kernel, size[-1]), transformed, plan.rest)
    rows = scratch("rows", (images, groups, plan.n, prod(size)))
    by_group = transformed.reshape(plan.n, images, groups, -1).transpose(1, 2, 0, 3)
    np.matmul(plan.matrices.inputs.T, by_group, out=rows)
    total = scratch("bordered", (images, blocks, prod(size)))
    total[...] = 0
    for j in range(plan.n):
        total[:, j : j + (groups - 1) * plan.m + 1 : plan.m] += rows[:, :, j]
    return total


def _contiguous(source, scratch: Scratch) -> np.ndarray:
    """The same values, without gaps: a group of channels has some."""
    if source[:1].flags.c_contiguous:
        return source
    copied = scratch("bordered", source.shape)
    copied[...] = source
    return copied
