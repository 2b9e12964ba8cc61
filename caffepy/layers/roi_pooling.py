"""ROIPooling: the maximum of each bin of a region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError
from caffepy.layers.regions import Spans, check_regions, read_regions, round_away, spans
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register

CHUNK = 1 << 20
"""Gradients that are handled at once."""
LOW = 0xFFFFFFFF
"""The lower half of a key."""

Sizes = tuple[int, int]
"""Binary logarithms of a window's height and width."""


class Lookups(NamedTuple):
    """What the maxima of bins are looked up in, and where.

    A bin's maximum is that of the four windows at its corners that are the largest whose sides are powers of two.
    `index` (B, 4) are their places in tables (S, N, H, W), one for each of `sizes`; `full` (B, 1) says which bins are
    not empty.
    """

    sizes: list[Sizes]
    index: Array
    full: Array


def lookups(images: Array, rows: Spans, columns: Spans, shape: tuple[int, ...]) -> Lookups:
    """For bins (R, P, Q) in a map (N, C, H, W)."""
    n, _, height, width = shape
    a, b = levels(rows.length)[:, :, None], levels(columns.length)[:, None, :]
    pairs, table = np.unique(a * 32 + b, return_inverse=True)
    start = table.reshape(a.shape[0], a.shape[1], -1) * n + images[:, None, None]
    index = [
        (start * height + np.clip(h, 0, height - 1)) * width + np.clip(w, 0, width - 1)
        for h in (rows.start[:, :, None], rows.end[:, :, None] - (1 << a))
        for w in (columns.start[:, None, :], columns.end[:, None, :] - (1 << b))
    ]
    full = (rows.length[:, :, None] > 0) & (columns.length[:, None, :] > 0)
    return Lookups([divmod(int(p), 32) for p in pairs], np.stack(index, axis=-1).reshape(-1, 4), full.reshape(-1, 1))


def levels(lengths: Array) -> Array:
    """The largest k with 2^k <= length."""
    return np.frexp(np.maximum(lengths, 1))[1] - 1


def window_maxima(xp, x: Array, sizes: Iterable[Sizes]) -> Iterator[Array]:
    """The maxima of all windows of these sizes, in rising order, of x (N, H, W, C): each from two of half its size."""
    done, wanted = 0, list(sizes)
    for a in sorted({a for a, _ in wanted}):
        while done < a:
            x = xp.maximum(x[:, : -(1 << done)], x[:, 1 << done :])
            done += 1
        y, across = x, 0
        for b in sorted(b for size, b in wanted if size == a):
            while across < b:
                y = xp.maximum(y[:, :, : -(1 << across)], y[:, :, 1 << across :])
                across += 1
            yield y


def largest(xp, tables: Array, index: Array, full: Array) -> Array:
    """Maxima (B, C) of four rows each of the tables (1, S N H W, C); 0 for bins that are empty."""
    y = xp.take(tables[0], index[:, 0], axis=0)
    for k in (1, 2, 3):
        y = xp.maximum(y, xp.take(tables[0], index[:, k], axis=0))
    return xp.where(full, y, 0)


def first_places(xp, tables: Array, index: Array, full: Array) -> Array:
    """Where in N H W C the maxima of bins lie, of equal ones the first, from tables of `keys`; 0 for empty bins."""
    positions = xp.where(full, LOW - (largest(xp, tables, index, full) & LOW), 0)
    channels = tables.shape[2]
    return positions * channels + xp.arange(channels, dtype=xp.int64)


def keys(xp, x: Array) -> Array:
    """Integers in the order of the values of x (N, H, W, C), and of equal ones the first position has the largest.

    The upper half orders as the float does, the lower is LOW - position.
    """
    n, h, w, _ = x.shape
    bits = (x + 0.0).view(xp.int32)  # 0 is added to turn -0 into 0
    upper = xp.astype(xp.where(bits < 0, bits ^ 0x7FFFFFFF, bits), xp.int64) * (LOW + 1)
    return upper + (LOW - xp.reshape(xp.arange(n * h * w, dtype=xp.int64), (n, h, w, 1)))


@register("ROIPooling")
class ROIPooling(Layer):
    """The maximum of each of `pooled_h` x `pooled_w` bins of regions of a map: (R, C, pooled_h, pooled_w).

    Bottoms: map (N, C, H, W); regions (R, 5): image, x1, y1, x2, y2 in the picture, whose pixels times
    `roi_pooling_param.spatial_scale` are cells of the map. Corners are rounded; a bin may share cells with the next,
    and is 0 where it lies outside of the map. The gradient goes to the first of equal maxima, regions have none.
    Girshick 2015.
    """

    num_bottom = 2
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.roi_pooling_param
        if not p.pooled_h or not p.pooled_w:
            raise ConfigError("roi_pooling_param needs pooled_h and pooled_w", hint="7 each is usual.")
        self.tables = Blob((), self.engine)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, count = self.param.roi_pooling_param, check_regions(self, bottom)
        top[0].reshape((count, bottom[0].shape[1], p.pooled_h, p.pooled_w))

    def _lookups(self, bottom: list[Blob]) -> Lookups:
        p, regions = self.param.roi_pooling_param, read_regions(self, bottom)
        corners = round_away(regions.boxes * np.float32(p.spatial_scale))
        sides = np.maximum(corners[:, 2:] - corners[:, :2] + 1, 1)
        shape = bottom[0].shape
        columns = spans(sides[:, 0], p.pooled_w, shape[3], behind=corners[:, :1])
        rows = spans(sides[:, 1], p.pooled_h, shape[2], behind=corners[:, 1:2])
        return lookups(regions.images, rows, columns, shape)

    def _fill(self, tables: Array, x: Array, sizes: list[Sizes]) -> Array:
        """The windows' maxima in tables (S, N, H, W, C), as (1, S N H W, C)."""
        for table, maxima in zip(tables, window_maxima(self.xp, x, sizes)):
            table[:, : maxima.shape[1], : maxima.shape[2]] = maxima
        return tables.reshape((1, -1, x.shape[-1]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, shape = self.xp, top[0].shape
        if not prod(shape):
            return
        self.lookups = self._lookups(bottom)
        x = _channels_behind(xp, bottom[0].data)
        self.tables.reshape((len(self.lookups.sizes), *x.shape))
        tables = self._fill(self.tables.data, x, self.lookups.sizes)
        index, full = xp.asarray(self.lookups.index), xp.asarray(self.lookups.full)
        with self.written_as(_channels_behind(xp, top[0].data), (len(self.lookups.index), shape[1])) as y:
            for part in self._parts(shape[1]):
                self.engine.map(largest, tables, index[part], full[part], out=y[part])

    def _parts(self, channels: int) -> list[slice]:
        """All bins, in slices whose temporaries stay small."""
        step, count = max(1, CHUNK // channels), len(self.lookups.index)
        return [slice(i, min(i + step, count)) for i in range(0, count, step)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            bottom[1].diff[...] = 0
        if not propagate_down[0]:
            return
        xp, channels = self.xp, bottom[0].shape[1]
        bottom[0].diff[...] = 0
        if not top[0].count:
            return
        x = _channels_behind(xp, bottom[0].data)
        tables = xp.empty((len(self.lookups.sizes), *x.shape), dtype=xp.int64)
        tables = self._fill(tables, keys(xp, x), self.lookups.sizes)
        dy = _channels_behind(xp, top[0].diff).reshape((-1, channels))
        index, full = xp.asarray(self.lookups.index), xp.asarray(self.lookups.full)
        with self.written_as(_channels_behind(xp, bottom[0].diff), (bottom[0].count,)) as dx:
            for part in self._parts(channels):
                places = xp.empty(dy[part].shape, dtype=xp.int64)
                self.engine.map(first_places, tables, index[part], full[part], out=places)
                self.engine.add_at(dx, places.reshape((-1,)), (dy[part] * full[part]).reshape((-1,)))


def _channels_behind(xp, x: Array) -> Array:
    """(N, C, H, W) seen as (N, H, W, C)."""
    return xp.permute_dims(x, (0, 2, 3, 1))
