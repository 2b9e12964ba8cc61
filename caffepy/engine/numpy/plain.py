"""Convolution by columns: im2col tile by tile, and one product a tile and group."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.engine.numpy.lowering import add_columns, add_to_rows, bordered, columns, sum_of_rows
from caffepy.engine.numpy.shapes import Shapes
from caffepy.engine.numpy.tail import NONE, Tail
from caffepy.engine.numpy.tiles import ImageTile, cut
from caffepy.engine.threads import ThreadPool
from caffepy.engine.window import Ints


class Plain:
    """The three products of a convolution, for arrays of these shapes."""

    def __init__(self, shapes: Shapes):
        self.shapes, self.groups = shapes, shapes.groups()
        out = shapes.out
        self.tiles = shapes.tiles(out[0] if out else 1, 4 * prod(out[1:]) * shapes.depth)
        self.shares = [self.tiles[some] for some in cut(len(self.tiles), shapes.shares)]
        # Of the scattered sums, which take whole images: some images, and their bands of output rows.
        images = max(1, self.tiles[0].images.stop) if self.tiles else 1
        self.chunks = [slice(i, min(shapes.items, i + images)) for i in range(0, shapes.items, images)]
        self.bands = sorted({(tile.rows.start, tile.rows.stop) for tile in self.tiles})

    def forward(self, x, w, bias, y, threads: ThreadPool, tail: Tail = NONE) -> None:
        """y = x * w + bias (cross-correlation), and what follows."""
        s, scratch = self.shapes, threads.scratch
        w = np.ascontiguousarray(w)
        matrices = [(c, o, w[o].reshape(s.outputs, -1).T) for c, o in self.groups]

        def task(i: int) -> None:
            tile = self.tiles[i]
            place = (tile.images, tile.rows) if s.out else (tile.images,)
            target = y[place]
            rows = target.size // y.shape[-1]
            whole = target.flags.c_contiguous
            flat = target.reshape(rows, -1) if whole else scratch("outputs", (rows, y.shape[-1]))
            source, shape = self._seen(x, tile, scratch)
            for c, o, matrix in matrices:
                np.matmul(columns(source[..., c], shape, s.window, scratch), matrix, out=flat[:, o])
            if bias is not None:
                add_to_rows(flat, bias)
            if not whole:
                target[...] = flat.reshape(target.shape)
            tail.finish(target, *place)

        threads.run(task, len(self.tiles))

    def grad_weights(self, x, dy, dw, db, threads: ThreadPool) -> None:
        """dw += the gradient of the weights, db, if any, += that of the bias; the shares add up in their order."""
        s, scratch = self.shapes, threads.scratch
        sums = np.empty((len(self.shares), dw.shape[0], s.depth), dw.dtype)
        bias_sums = np.zeros((len(self.shares), dw.shape[0]), dw.dtype)

        def task(share: int) -> None:
            product = scratch("dw", (s.outputs, s.depth))
            for number, tile in enumerate(self.shares[share]):
                flat = (dy[tile.images, tile.rows] if s.out else dy[tile.images]).reshape(-1, dy.shape[-1])
                if db is not None:
                    bias_sums[share] += sum_of_rows(flat)
                source, shape = self._seen(x, tile, scratch)
                for c, o in self.groups:
                    lowered = columns(source[..., c], shape, s.window, scratch)
                    np.matmul(flat[:, o].T, lowered, out=product if number else sums[share, o])
                    if number:
                        sums[share, o] += product

        threads.run(task, len(self.shares))
        for part in sums:
            dw += part.reshape(dw.shape)
        if db is not None:
            db += bias_sums.sum(axis=0)

    def grad_data(self, dy, w, bias, dx, threads: ThreadPool) -> None:
        """dx = the gradient of the input (+ bias) by col2im: columns of gradients, a strided sum a kernel position."""
        s, scratch = self.shapes, threads.scratch
        w = np.ascontiguousarray(w)
        padded_size = tuple(n + 2 * p for n, p in zip(s.size, s.window.pad))
        inside = tuple(slice(p, p + n) for n, p in zip(s.size, s.window.pad))

        def task(i: int) -> None:
            chunk = self.chunks[i]
            count = chunk.stop - chunk.start
            padded = scratch("bordered", (count, *padded_size, dx.shape[-1]))
            padded[...] = 0
            for first, last in self.bands:
                shape = (count, last - first, *s.out[1:]) if s.out else (count,)
                source = (dy[chunk, first:last] if s.out else dy[chunk]).reshape(-1, dy.shape[-1])
                for c, o in self.groups:
                    cols = scratch("columns", (source.shape[0], s.depth))
                    np.matmul(source[:, o], w[o].reshape(s.outputs, -1), out=cols)
                    cols = cols.reshape(*shape, *s.window.kernel, s.channels)
                    add_columns(cols, padded[..., c], s.window, first)
            target = padded[(slice(None), *inside)]
            if bias is None:
                dx[chunk] = target
            else:
                np.add(target, bias, out=dx[chunk])

        threads.run(task, len(self.chunks))

    def _seen(self, x, tile: ImageTile, scratch) -> tuple[np.ndarray, Ints]:
        """What the tile's outputs see of x, with its border, and the spatial shape of those outputs."""
        s, window = self.shapes, self.shapes.window
        if not s.out:
            return x[tile.images], ()
        rows = tile.shape[1]
        start = tile.rows.start * window.stride[0] - window.pad[0]
        count = (rows - 1) * window.stride[0] + window.extent[0]
        return bordered(x, tile.images, start, count, window.pad[1:], scratch), (rows, *s.out[1:])
