"""Tiles: pieces of a batch's images that a thread works on."""

from __future__ import annotations

from typing import NamedTuple

# Bytes a tile works on. Tiles that fit the second-level cache would be 1 MB, but every numpy call ends in a wait for
# the interpreter lock: on two cores LeNet's conv2 took 8 ms backward with 1 MB, 2.8 ms with 8 MB; 4 MB
# are as fast and need half the memory.
TILE_BYTES = 4 << 20

# BLAS packs the weights anew for each tile, so a tile works on at least this many times their bytes.
TIMES_WEIGHTS, LARGEST_TILE = 4, 16 << 20

# An image with fewer bytes is not divided for a second thread.
WORTH_A_THREAD = 1 << 20


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
