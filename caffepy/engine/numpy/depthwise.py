"""Convolution with a filter of its own for each channel, without columns: one einsum over the taps.

Arrays are channels-last: x (N, H, W, C), y (N, h, w, C), weights (C, kh, kw, 1). Whole rows are the unit: a tap is
its C weights repeated along a row, so that numpy's inner loop, a fused multiply-add, runs over a row and not over the
channels of one position. MobileNet's first such layer (112 x 112 x 32, 3 x 3) takes 0.6 ms on one core, as a product
for each group (`Plain`) it takes 5. Where the stride is 2, every column is computed and every second kept, which is
faster than sorting the columns first.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.numpy.lowering import Scratch, add_to_rows, bordered, dense, sum_of_rows
from caffepy.engine.numpy.phases import along_rows, grad_of_phase
from caffepy.engine.numpy.shapes import Shapes
from caffepy.engine.numpy.tail import NONE, Tail
from caffepy.engine.numpy.tiles import TILE_BYTES, ImageTile, cut
from caffepy.engine.threads import ThreadPool

LARGEST_STRIDE = 2


def fits(shapes: Shapes) -> bool:
    """Whether each of several channels has one filter, over two spatial axes."""
    return len(shapes.window.kernel) == 2 and shapes.group > 1 and shapes.channels == shapes.outputs == 1


def fits_forward(shapes: Shapes) -> bool:
    """`fits`, and not too many of the columns that `forward` and `grad_weights` compute would be dropped."""
    return fits(shapes) and shapes.window.stride[1] <= LARGEST_STRIDE


class Depthwise:
    """The three products of a convolution of each channel on its own, for arrays of these shapes."""

    def __init__(self, shapes: Shapes):
        self.shapes, n = shapes, shapes.items
        self.step = shapes.window.stride[1]
        self.wide = max(0, (shapes.out[1] - 1) * self.step + 1)
        """How many columns are computed for those of y."""
        self.tiles = shapes.tiles(shapes.out[0], 4 * self.wide * shapes.group)
        self.shares = [self.tiles[some] for some in cut(len(self.tiles), shapes.shares)]
        image_bytes = 4 * shapes.size[0] * shapes.size[1] * shapes.group
        images = max(1, min(-(-n // shapes.shares), TILE_BYTES // max(1, image_bytes)))
        phases = list(product(*(range(stride) for stride in shapes.window.stride)))
        self.chunks = [(slice(i, min(n, i + images)), phase) for i in range(0, n, images) for phase in phases]

    def forward(self, x, w, bias, y, threads: ThreadPool, tail: Tail = NONE) -> None:
        """y = x * w + bias, each channel on its own, and what follows."""
        scratch, channels = threads.scratch, self.shapes.group
        taps = along_rows(np.moveaxis(w[..., 0], 0, -1), self.wide)

        def task(i: int) -> None:
            tile = self.tiles[i]
            target = y[tile.images, tile.rows]
            whole = self.step == 1 and target.flags.c_contiguous
            out = target if whole else scratch("outputs", (*tile.shape, self.wide, channels))
            windows = self._windows(x, tile, scratch)
            np.einsum("npqrx,pqx->nrx", windows, taps, out=out.reshape(*tile.shape, -1))
            if bias is not None:
                add_to_rows(out.reshape(-1, channels), bias)
            if not whole:
                target[...] = out[:, :, :: self.step]
            tail.finish(target, tile.images, tile.rows)

        threads.run(task, len(self.tiles))

    def grad_weights(self, x, dy, dw, db, threads: ThreadPool) -> None:
        """dw += the gradient of the weights, db, if any, += that of the bias; the shares add up in their order."""
        s, scratch = self.shapes, threads.scratch
        sums = np.zeros((len(self.shares), *s.window.kernel, s.group), dw.dtype)
        bias_sums = np.zeros((len(self.shares), s.group), dw.dtype)

        def task(share: int) -> None:
            products = scratch("dw", (*s.window.kernel, self.wide * s.group))
            for tile in self.shares[share]:
                given = dy[tile.images, tile.rows]
                if db is not None:
                    bias_sums[share] += sum_of_rows(given.reshape(-1, s.group))
                given = self._spread(given, tile, scratch)
                windows = self._windows(x, tile, scratch)
                np.einsum("npqrx,nrx->pqx", windows, given.reshape(*tile.shape, -1), out=products)
                sums[share] += products.reshape(*s.window.kernel, self.wide, s.group).sum(axis=2)

        threads.run(task, len(self.shares))
        dw[..., 0] += np.moveaxis(sums.sum(axis=0), -1, 0)
        if db is not None:
            db += bias_sums.sum(axis=0)

    def grad_data(self, dy, w, bias, dx, threads: ThreadPool) -> None:
        """dx = the gradient of the input (+ bias): for strides of s and t, s x t convolutions of dy with stride 1."""

        def task(i: int) -> None:
            chunk, phase = self.chunks[i]
            grad_of_phase(dy[chunk], w[..., 0], bias, dx[chunk], self.shapes.window, phase, threads.scratch)

        threads.run(task, len(self.chunks))

    def _spread(self, dy, tile: ImageTile, scratch: Scratch):
        """A tile of dy, with a gradient of zero for the columns in between."""
        if self.step == 1:
            return dy
        spread = scratch("outputs", (*tile.shape, self.wide, self.shapes.group))
        spread[...] = 0
        spread[:, :, :: self.step] = dy
        return spread

    def _windows(self, x, tile: ImageTile, scratch: Scratch):
        """For each tap the rows of x that a tile sees, (n, kh, kw, rows, columns * C), a view of x with its border."""
        window, rows = self.shapes.window, tile.shape[1]
        start = tile.rows.start * window.stride[0] - window.pad[0]
        count = (rows - 1) * window.stride[0] + window.extent[0]
        source = dense(bordered(x, tile.images, start, count, window.pad[1:], scratch))
        image, row, column, value = source.strides
        steps = (image, row * window.dilation[0], column * window.dilation[1], row * window.stride[0], value)
        shape = (len(source), *window.kernel, rows, self.wide * self.shapes.group)
        return as_strided(source, shape, steps)
