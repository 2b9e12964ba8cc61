"""The shapes of a convolution, and the tiles that they are cut into. All is channels-last."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from caffepy.engine.numpy.tiles import ImageTile, tiles
from caffepy.engine.window import Ints, Window


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
