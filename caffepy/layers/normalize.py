"""Normalize: vectors of length 1, times a learned scale."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import FillerParameter


def normalize(xp, x, scale, norm):
    return x * (scale / norm)


def normalize_grad(xp, dy, x, scale, norm, along):
    """scale / norm (dy - u <dy, u>), u = x / norm and `along` = scale <dy, x> / norm^3."""
    return dy * (scale / norm) - x * along


@register("Normalize")
class Normalize(Layer):
    """y = scale * x / sqrt(sum of x^2 + eps), the sum over C, H and W, or over C at each position.

    x (N, C, H, W), scale one for all channels, shape (), or (C). From SSD (and ParseNet, Liu et al. 2015).
    `norm_param`: `across_spatial` (true), `channel_shared` (true), `scale_filler` (1), `eps` (1e-10).
    """

    pixelwise = True
    in_place = "forward"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check_axes(bottom)
        p = self.param.norm_param
        filler = p.scale_filler if p.HasField("scale_filler") else FillerParameter(type="constant", value=1)
        self.add_blob(() if p.channel_shared else (bottom[0].shape[1],), filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check_axes(bottom)
        scale, channels = self.blobs[0].shape, bottom[0].shape[1]
        if scale not in ((), (channels,)):
            raise ShapeError(f"{self.bottom_name(0)} has {channels} channels, the scale was made for {scale[0]}")
        self.axes = (1, 2, 3) if self.param.norm_param.across_spatial else (1,)
        top[0].reshape_like(bottom[0])

    def _check_axes(self, bottom: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"Normalize needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x = bottom[0].data
        self.norm = self.xp.sqrt(self._sum(x * x) + self.param.norm_param.eps)
        self.engine.map(normalize, x, self._scale(), self.norm, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, x, dy = self.xp, bottom[0].data, top[0].diff
        if self.param_propagate_down[0]:
            others = (0, 1, 2, 3) if self.blobs[0].shape == () else (0, 2, 3)
            self.blobs[0].diff[...] += xp.sum(dy * x / self.norm, axis=others)
        if propagate_down[0]:
            along = self._sum(dy * x * self._scale()) / self.norm**3
            self.engine.map(normalize_grad, dy, x, self._scale(), self.norm, along, out=bottom[0].diff)

    def _sum(self, x: Array) -> Array:
        return self.xp.sum(x, axis=self.axes, keepdims=True)

    def _scale(self) -> Array:
        return self.blobs[0].data.reshape((1, self.blobs[0].count, 1, 1))
