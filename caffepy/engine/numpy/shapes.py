"""The shapes of a convolution, and the tiles that they are cut into. All is channels-last."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from caffepy.engine.window import Ints, Window

# Bytes a tile works on. Tiles that fit the second-level cache would be 1 MB, but every numpy call ends in a wait for
# the interpreter lock: on two cores LeNet's conv2 took 8 ms backward with 1 MB, 2.8 ms with 8 MB; 4 MB
# are as fast and need half the memory.
TILE_BYTES = 4 << 20
# BLAS packs the weights anew for each tile, so a tile works on at least this many times their bytes.
TIMES_WEIGHTS, LARGEST_TILE = 4, 16 << 20
# An image with fewer bytes is not divided for a second thread.
WORTH_A_THREAD = 1 << 20


class Shapes(NamedTuple):
    """Of x (items, *size, group channels), y (items, *out, group outputs), w (group outputs, *kernel, channels)."""

    items: int
    size: Ints
    out: Ints
    channels: int
    outputs: int
    group: int
    window: Window
    shares: int
    """For how many threads the work is cut. Not how many there are: what is summed must not depend on that."""

    @staticmethod
    def of(x: Ints, w: Ints, window: Window, group: int, shares: int) -> Shapes:
        """From the shapes (N, C, *size) and (O, C / group, *kernel)."""
        size = x[2:]
        return Shapes(x[0], size, window.conv_shape(size), w[1], w[0] // group, group, window, shares)

    @property
    def transposed(self) -> Shapes:
        """Of the convolution of y with flipped kernels that gives x again, where strides are 1."""
        pad = tuple(e - 1 - p for e, p in zip(self.window.extent, self.window.pad))
        window = self.window._replace(pad=pad)
        return self._replace(size=self.out, out=self.size, channels=self.outputs, outputs=self.channels, window=window)

    @property
    def depth(self) -> int:
        """How many products make one output."""
        return prod(self.window.kernel) * self.channels

    @property
    def weight_bytes(self) -> int:
        return 4 * self.group * self.outputs * self.depth

    def tiles(self, rows: int, row_bytes: int) -> list[ImageTile]:
        """The images, each of so many rows that take so many bytes, in tiles."""
        return tiles(self.items, rows, row_bytes, self.weight_bytes, self.shares)

    def groups(self) -> list[tuple[slice, slice]]:
        """Of each group, its channels of x and its channels of y."""
        c, o = self.channels, self.outputs
        return [(slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g in range(self.group)]


class ImageTile(NamedTuple):
    """Some images, whole, or some rows (of the first spatial axis) of one image."""

    images: slice
    rows: slice

    @property
    def shape(self) -> tuple[int, int]:
        return self.images.stop - self.images.start, self.rows.stop - self.rows.start


def tiles(n: int, rows: int, row_bytes: int, weight_bytes: int, shares: int) -> list[ImageTile]:
    """Cut `n` images of `rows` rows, each of so many bytes, into tiles: as many for each share, if it goes and pays."""
    tile_bytes = max(TILE_BYTES, min(TIMES_WEIGHTS * weight_bytes, LARGEST_TILE))
    per_image = max(1, rows * row_bytes)
    if 2 * n * per_image < shares * tile_bytes:  # else tiles would be less than half as large
        shares = -(-shares // 2)
    bands = -(-per_image // tile_bytes)
    if bands == 1 and n < shares and per_image > WORTH_A_THREAD:
        bands = -(-shares // max(1, n))
    if bands == 1:
        rounds = -(-n * per_image // (tile_bytes * shares))
        images = max(1, -(-n // (rounds * shares))) if n else 1
        return [ImageTile(slice(i, min(n, i + images)), slice(0, rows)) for i in range(0, n, images)]
    step = -(-rows // bands)
    step = -(-rows // -(-rows // step))  # even out the last band
    return [ImageTile(slice(i, i + 1), slice(r, min(rows, r + step))) for i in range(n) for r in range(0, rows, step)]


def cut(n: int, parts: int) -> list[slice]:
    """0 .. n - 1 in so many ranges, or n if that is less."""
    parts = min(n, parts)
    return [slice(i * n // parts, (i + 1) * n // parts) for i in range(parts)]
