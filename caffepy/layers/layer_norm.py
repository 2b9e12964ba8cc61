"""LayerNorm: normalization of the last axes of each item."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import FillerParameter


@register("LayerNorm")
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps) over the axes from `layer_norm_param.axis` on (Ba et al. 2016).

    Unset, axis is 2, or 1 where there are but two axes (MyCaffe); with `elementwise_affine`, 1 (Synopsys's Caffe),
    and y is multiplied by a learned scale and added to a learned shift of the shape of those axes. MyCaffe's `epsilon`
    (1e-10) counts unless `eps` is set; with elementwise_affine eps is 1e-5. May run in place.
    """

    pixelwise = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.layer_norm_param, bottom[0].shape
        if p.HasField("eps") and p.HasField("epsilon"):
            raise ConfigError("both eps and epsilon, two names for one thing, are given", hint="Keep one of the two.")
        self.eps = p.eps if p.HasField("eps") or (p.elementwise_affine and not p.HasField("epsilon")) else p.epsilon
        usual = 1 if p.elementwise_affine or len(shape) == 2 else 2
        self.axis = self.canonical_axis(p.axis if p.HasField("axis") else usual, len(shape))
        if p.elementwise_affine:
            self.add_blob(shape[self.axis :], FillerParameter(value=1))
            self.add_blob(shape[self.axis :])

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        self.canonical_axis(self.axis, len(shape))
        if self.blobs and shape[self.axis :] != self.blobs[0].shape:
            raise ConfigError(f"{self.bottom_name(0)} is {shape}, the parameters are for {self.blobs[0].shape}")
        self.rows = prod(shape[: self.axis]), prod(shape[self.axis :])
        top[0].reshape(shape)

    def divisible(self) -> bool:
        return self.axis > 0

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        x = bottom[0].data.reshape(self.rows)
        centred = x - xp.mean(x, axis=1, keepdims=True)
        self.inverse = 1 / xp.sqrt(xp.mean(centred * centred, axis=1, keepdims=True) + self.eps)
        self.normalized = y = centred * self.inverse
        if self.blobs:
            scale, shift = (self._row(blob.data) for blob in self.blobs)
            y = y * scale + shift
        top[0].data[...] = y.reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, x = self.xp, self.normalized
        dy = top[0].diff.reshape(self.rows)
        if self.blobs:
            for blob, terms, wanted in zip(self.blobs, (dy * x, dy), self.param_propagate_down):
                if wanted:
                    blob.diff[...] += xp.sum(terms, axis=0).reshape(blob.shape)
            dy = dy * self._row(self.blobs[0].data)
        if propagate_down[0]:
            along = xp.mean(dy * x, axis=1, keepdims=True)
            dx = (dy - xp.mean(dy, axis=1, keepdims=True) - x * along) * self.inverse
            bottom[0].diff[...] = dx.reshape(bottom[0].shape)

    def _row(self, parameter: Array) -> Array:
        return parameter.reshape((1, self.rows[1]))
