"""ROIAlign: the mean of bilinear samples in each bin of a region."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffepy.errors import ConfigError
from caffepy.layers.regions import check_regions, read_regions
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register

CHUNK = 1 << 21
"""Elements of the half-pooled maps of the regions that are computed together."""


def bin_weights(start: Array, length: Array, bins: int, samples: int, size: int) -> Array:
    """How much of each cell of an axis is in each bin of regions (R): weights (R, bins, size).

    A bin is the mean of evenly spaced samples, `samples` or, below 1, as many as it has cells; a sample at y takes
    1 - |y - i| of the cells i and i + 1 around it. One between -1 and 0 takes cell 0, one behind the last cell that;
    one further out is 0.
    """
    count = np.full(len(start), samples) if samples > 0 else np.ceil(length / bins).astype(np.int64)
    steps = np.arange(max(1, count.max(initial=1)))
    width = length / np.float32(bins)
    within = (steps + np.float32(0.5)) * (width / count)[:, None]
    y = (start[:, None] + np.arange(bins, dtype=np.float32) * width[:, None])[:, :, None] + within[:, None]
    used = (steps < count[:, None])[:, None] & (y >= -1) & (y <= size)
    low = np.clip(y, 0, size - 1)
    cell = np.minimum(low.astype(np.int64), size - 1)
    part = low - cell
    weights = np.zeros((len(start), bins, size), np.float32)
    at = np.arange(len(start))[:, None, None], np.arange(bins)[:, None]
    share = used / count[:, None, None].astype(np.float32)
    np.add.at(weights, (*at, cell), (1 - part) * share)
    np.add.at(weights, (*at, np.minimum(cell + 1, size - 1)), part * share)
    return weights


@register("ROIAlign")
class ROIAlign(Layer):
    """The mean of bilinear samples in each of `pooled_h` x `pooled_w` bins of regions: (R, C, pooled_h, pooled_w).

    Bottoms: map (N, C, H, W); regions (R, 5): image, x1, y1, x2, y2 in the picture, cells after they are multiplied by
    `roi_align_param.spatial_scale`, at least 1 x 1. Nothing is rounded, nothing shifted by half a cell.
    `sampling_ratio`^2 samples a bin, or as many as it has cells. He et al. 2017, as Detectron has it. Since the axes
    are sampled apart, y = A x B: weights of rows, map, weights of columns. Regions have no gradient.
    """

    num_bottom = 2
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.roi_align_param
        if not p.pooled_h or not p.pooled_w:
            raise ConfigError("roi_align_param needs pooled_h and pooled_w", hint="7 each is usual.")

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, count = self.param.roi_align_param, check_regions(self, bottom)
        top[0].reshape((count, bottom[0].shape[1], p.pooled_h, p.pooled_w))

    def _read(self, bottom: list[Blob]) -> None:
        """Images (R) of the regions, and weights (R, pooled_h, H), (R, pooled_w, W)."""
        p, regions = self.param.roi_align_param, read_regions(self, bottom)
        boxes = regions.boxes * np.float32(p.spatial_scale)
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
        height, width = bottom[0].shape[2:]
        self.images = regions.images
        self.rows = bin_weights(boxes[:, 1], sides[:, 1], p.pooled_h, p.sampling_ratio, height)
        self.columns = bin_weights(boxes[:, 0], sides[:, 0], p.pooled_w, p.sampling_ratio, width)

    def _together(self, bottom: Blob) -> Iterator[tuple[int, Array]]:
        """Each image with some of its regions, few enough for CHUNK."""
        size = self.rows.shape[1] * bottom.shape[3] * bottom.shape[1]
        step = max(1, CHUNK // max(1, size))
        for image in np.unique(self.images):
            mine = np.flatnonzero(self.images == image)
            for i in range(0, len(mine), step):
                yield int(image), mine[i : i + step]

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (_, channels, height, width) = self.xp, bottom[0].shape
        self._read(bottom)
        y = xp.permute_dims(top[0].data, (0, 2, 3, 1))
        for image, mine in self._together(bottom[0]):
            rows, columns = (self.engine.asarray(weights[mine]) for weights in (self.rows, self.columns))
            x = xp.permute_dims(bottom[0].data[image], (1, 2, 0)).reshape((height, width * channels))
            half = self.engine.zeros(len(mine) * rows.shape[1] * width * channels).reshape((-1, width * channels))
            self.engine.gemm(rows.reshape((-1, height)), x, half)
            half = half.reshape((len(mine), rows.shape[1], width, channels))
            y[xp.asarray(mine)] = xp.matmul(columns[:, None], half)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            bottom[1].diff[...] = 0
        if not propagate_down[0]:
            return
        xp, (_, channels, height, width) = self.xp, bottom[0].shape
        bottom[0].diff[...] = 0
        dy = xp.permute_dims(top[0].diff, (0, 2, 3, 1))
        for image, mine in self._together(bottom[0]):
            rows, columns = (self.engine.asarray(weights[mine]) for weights in (self.rows, self.columns))
            half = xp.matmul(xp.permute_dims(columns, (0, 2, 1))[:, None], dy[xp.asarray(mine)])
            dx = xp.permute_dims(bottom[0].diff[image], (1, 2, 0))
            with self.written_as(dx, (height, width * channels)) as flat:
                half = half.reshape((-1, width * channels))
                self.engine.gemm(xp.permute_dims(rows.reshape((-1, height)), (1, 0)), half, flat, accumulate=True)
