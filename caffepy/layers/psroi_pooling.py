"""PSROIPooling: the mean of each bin of a region, each bin from channels of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.regions import check_regions, read_regions, round_away, spans
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register

SMALLEST = np.float32(0.1)
"""Height and width of a region that has none, in cells."""


class Corners(NamedTuple):
    """Of each bin (R, D, G, G): the places of its corners in sums (N, H + 1, W + 1, C), and its number of cells."""

    places: Array  # (4, ...): what counts for the bin, twice, then what counts against it
    cells: Array


def sums_from_corner(xp, x: Array) -> Array:
    """s[n, i, j, c] (N, H + 1, W + 1, C): the sum of x (N, H, W, C) over the rows above i and the columns left of j."""
    down = xp.cumulative_sum(xp.astype(x, xp.float64), axis=1, include_initial=True)
    return xp.cumulative_sum(down, axis=2, include_initial=True)


@register("PSROIPooling")
class PSROIPooling(Layer):
    """y[r, d, i, j] = mean of bin (i, j) of region r in channel (d G + i) G + j: (R, D, G, G), position-sensitive.

    Bottoms: map (N, D G^2, H, W); regions (R, 5): image, x1, y1, x2, y2 in the picture. The corners, rounded, times
    `psroi_pooling_param.spatial_scale` are those in the map; the far ones have the pixel behind them. D is
    `output_dim`, G `group_size`. A bin outside of the map is 0. Regions have no gradient. R-FCN, Dai et al. 2016.
    """

    num_bottom = 2
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.psroi_pooling_param
        if p.spatial_scale <= 0 or p.output_dim < 1 or p.group_size < 1:
            raise ConfigError("psroi_pooling_param needs spatial_scale, output_dim and group_size, positive numbers")

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, count = self.param.psroi_pooling_param, check_regions(self, bottom)
        wanted = p.output_dim * p.group_size**2
        if bottom[0].shape[1] != wanted:
            raise ShapeError(
                f"{self.bottom_name(0)} has {bottom[0].shape[1]} channels, output_dim {p.output_dim} and group_size "
                f"{p.group_size} need {wanted}"
            )
        top[0].reshape((count, p.output_dim, p.group_size, p.group_size))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        self.corners = self._corners(bottom)
        sums = sums_from_corner(xp, xp.permute_dims(bottom[0].data, (0, 2, 3, 1))).reshape((-1,))
        a, b, c, d = (xp.take(sums, xp.asarray(place.reshape(-1)), axis=0) for place in self.corners.places)
        total = (a + b - c - d).reshape(top[0].shape)
        top[0].data[...] = total / xp.asarray(np.maximum(self.corners.cells, 1))

    def _corners(self, bottom: list[Blob]) -> Corners:
        p, regions = self.param.psroi_pooling_param, read_regions(self, bottom)
        _, channels, height, width = bottom[0].shape
        # Rounded before scaling, unlike in ROIPooling.
        corners = (round_away(regions.boxes) + np.array([0, 0, 1, 1], np.float32)) * np.float32(p.spatial_scale)
        sides = np.maximum(corners[:, 2:] - corners[:, :2], SMALLEST)
        columns = spans(sides[:, 0], p.group_size, width, before=corners[:, :1])
        rows = spans(sides[:, 1], p.group_size, height, before=corners[:, 1:2])
        channel = np.arange(channels).reshape(p.output_dim, p.group_size, p.group_size)
        image = regions.images.reshape(-1, 1, 1, 1)
        low, high = (edge[:, None, :, None] for edge in rows)
        left, right = (edge[:, None, None, :] for edge in columns)
        cells = np.maximum(high - low, 0) * np.maximum(right - left, 0)
        places = [
            np.where(cells > 0, ((image * (height + 1) + i) * (width + 1) + j) * channels + channel, 0)
            for i, j in ((high, right), (low, left), (high, left), (low, right))
        ]
        return Corners(np.stack(places), np.broadcast_to(cells, places[0].shape))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            bottom[1].diff[...] = 0
        if not propagate_down[0]:
            return
        # Each bin adds its share between its corners: differences there, summed up from the corner of the map.
        xp = self.xp
        n, channels, height, width = bottom[0].shape
        share = xp.astype(top[0].diff / xp.asarray(np.maximum(self.corners.cells, 1)), xp.float64).reshape((-1,))
        steps = xp.zeros(n * (height + 1) * (width + 1) * channels, dtype=xp.float64)
        for places, sign in zip(self.corners.places, (1.0, 1.0, -1.0, -1.0)):
            self.engine.add_at(steps, xp.asarray(places.reshape(-1)), sign * share)
        steps = steps.reshape((n, height + 1, width + 1, channels))
        total = xp.cumulative_sum(xp.cumulative_sum(steps, axis=1), axis=2)[:, :height, :width]
        bottom[0].diff[...] = xp.permute_dims(total, (0, 3, 1, 2))
