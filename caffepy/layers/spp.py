"""SPP: spatial pyramid pooling."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import ceil, prod

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.pooling import Pooling
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import LayerParameter


@register("SPP")
class SPP(Layer):
    """Pooling into 2^l x 2^l bins for l = 0 .. `spp_param.pyramid_height` - 1, flattened and joined (He et al. 2014).

    x (N, C, H, W), y (N, C * all bins) whatever H and W; a single level keeps Pooling's four axes.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.param.spp_param.pyramid_height <= 0:
            raise ConfigError("spp_param.pyramid_height must be at least 1")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"SPP needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")
        p = self.param.spp_param
        self.levels: list[tuple[Pooling, Blob]] = []
        for level in range(p.pyramid_height):
            pooled = Blob((), self.engine)
            layer = Pooling(self._level_param(2**level, bottom[0].shape[2:]), self.phase, self.engine)
            layer.set_up(bottom, [pooled])
            self.levels.append((layer, pooled))
        if len(self.levels) == 1:
            top[0].reshape_like(self.levels[0][1])
        else:
            sizes = [prod(pooled.shape[1:]) for _, pooled in self.levels]
            self.bounds = [0, *accumulate(sizes)]
            top[0].reshape(bottom[0].shape[0], self.bounds[-1])

    def _level_param(self, bins: int, size: tuple[int, ...]) -> LayerParameter:
        param = LayerParameter(name=f"{self.name} level {bins}", type="Pooling", bottom=self.param.bottom)
        pooling = param.pooling_param
        pooling.pool = self.param.spp_param.pool  # type: ignore[assignment]  # two enums with the same numbers
        pooling.kernel_h, pooling.kernel_w = kernel = [ceil(s / bins) for s in size]
        pooling.stride_h, pooling.stride_w = kernel
        pooling.pad_h, pooling.pad_w = ((k * bins - s + 1) // 2 for k, s in zip(kernel, size))
        return param

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, (layer, pooled) in enumerate(self.levels):
            layer.forward(bottom, [pooled])
            if len(self.levels) == 1:
                top[0].data[...] = pooled.data
            else:
                first, last = self.bounds[i : i + 2]
                top[0].data[:, first:last] = self.by_item(pooled.data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        total = None
        for (layer, pooled), part in zip(self.levels, self._parts(top[0])):
            pooled.diff[...] = part.reshape(pooled.shape)
            layer.backward([pooled], propagate_down, bottom)
            total = self.engine.copy(bottom[0].diff) if total is None else total + bottom[0].diff
        bottom[0].diff[...] = total

    def _parts(self, top: Blob):
        if len(self.levels) == 1:
            return [top.diff]
        return [top.diff[:, first:last] for first, last in pairwise(self.bounds)]
