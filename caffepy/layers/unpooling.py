"""Unpooling: each value spread over a window, the reverse of Pooling."""

from __future__ import annotations

from itertools import product

from caffepy.engine.window import Window
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.masked import check_mask, put_by_mask, take_by_mask
from caffepy.layers.pooling import read_pair
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import UnpoolingParameter


@register("Unpooling")
class Unpooling(Layer):
    """x (N, C, H, W), y (N, C, h, w): each value in its window of y, windows as in Pooling (Noh et al. 2015).

    `unpooling_param.unpool` MAX: at the place that a mask, the second bottom, gives, else in the window's first cell;
    0 elsewhere. AVE: x / area in every cell of the window, TILE: x; windows that overlap add up. h and w:
    `unpool_size`, or `unpool_h` and `unpool_w`; else max((H - 1) stride + kernel, H stride + 1).
    """

    num_bottom = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.unpooling_param
        kernel, stride, pad = (read_pair(p, field) for field in ("kernel", "stride", "pad"))
        if min(kernel) < 1 or min(stride) < 1:
            raise ConfigError("the unpooling kernel and stride must be at least 1")
        if any(pad):
            raise ConfigError("Unpooling takes no padding")
        if len(bottom) == 2 and p.unpool != UnpoolingParameter.MAX:
            raise ConfigError("only MAX unpooling takes a mask")
        if p.HasField("unpool_h") != p.HasField("unpool_w") or (p.HasField("unpool_size") and p.HasField("unpool_h")):
            raise ConfigError("the size of the top is unpool_size, or unpool_h and unpool_w")
        self.window = Window(kernel, stride, (0, 0), (1, 1))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def divisible(self) -> bool:
        return True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"Unpooling needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")
        if len(bottom) == 2:
            check_mask(self, bottom)
        p = self.param.unpooling_param
        n, c, *size = bottom[0].shape
        if p.HasField("unpool_size") or p.HasField("unpool_h"):
            out = [p.unpool_size] * 2 if p.HasField("unpool_size") else [p.unpool_h, p.unpool_w]
        else:
            out = [max((m - 1) * s + k, m * s + 1) for m, s, k in zip(size, self.window.stride, self.window.kernel)]
        if len(bottom) == 1 and any((m - 1) * s >= o for m, s, o in zip(size, self.window.stride, out)):
            raise ShapeError(f"a top of {out[0]}x{out[1]} has no place for the windows of {self.bottom_name(0)}")
        top[0].reshape(n, c, *out)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) == 2:
            put_by_mask(self, bottom, top[0])
            return
        x, y = bottom[0].data, top[0].data
        share = x if self.param.unpooling_param.unpool != UnpoolingParameter.AVE else x / self._areas(x, y)
        y[...] = 0
        for values, cells in self._places(x, y):
            y[cells] += share[values]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        if len(bottom) == 2:
            take_by_mask(self, bottom, top[0])
            return
        dx, dy = bottom[0].diff, top[0].diff
        dx[...] = 0
        for values, cells in self._places(dx, dy):
            dx[values] += dy[cells]
        if self.param.unpooling_param.unpool == UnpoolingParameter.AVE:
            dx[...] = dx / self._areas(dx, dy)

    def _places(self, x: Array, y: Array):
        """For each position in a window: which values reach a cell of y, and those cells."""
        first = self.param.unpooling_param.unpool == UnpoolingParameter.MAX
        for at in [(0, 0)] if first else product(*map(range, self.window.kernel)):
            values, cells = self.window.reach(at, y.shape[2:], x.shape[2:])
            yield (..., *values), (..., *cells)

    def _areas(self, x: Array, y: Array) -> Array:
        """Cells of each window that lie in y, (H, W)."""
        xp, spans = self.xp, []
        for m, n, k, s in zip(x.shape[2:], y.shape[2:], self.window.kernel, self.window.stride):
            spans.append(xp.astype(xp.clip(n - xp.arange(m) * s, None, k), xp.float32))
        return spans[0][:, None] * spans[1]


@register("UnPooling")
class UnPooling(Unpooling):
    """MyCaffe's name for Unpooling."""
