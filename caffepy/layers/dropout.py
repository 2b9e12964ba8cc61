"""Dropout: y = x * mask / (1 - ratio)."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TRAIN


def scale_by(xp, x, mask, scale):
    return x * mask * scale


def times(xp, x, factor):
    return x * factor


@register("Dropout")
class Dropout(Layer):
    """y = x * mask / (1 - ratio), mask 1 with probability 1 - `dropout_ratio` (Srivastava et al. 2014); TEST: y = x.

    `scale_train: false` (Faster R-CNN's Caffe): y = x * mask, and in TEST y = x * (1 - ratio). Any shape; may run in
    place.
    """

    pixelwise = True

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 < self.ratio < 1:
            raise ConfigError(f"dropout_ratio must lie between 0 and 1, both excluded, got {self.ratio:g}")
        at_once = self.param.dropout_param.scale_train
        self.scale = 1 / (1 - self.ratio) if at_once else 1.0
        self.test_scale = 1.0 if at_once else 1 - self.ratio
        self.mask = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(bottom[0])
        self.mask.reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.phase == TRAIN:
            self.engine.random_mask(1 - self.ratio, self.mask.flat())
            self.engine.map(scale_by, bottom[0].data, self.mask.data, self.scale, out=top[0].data)
        elif top[0] is not bottom[0] or self.test_scale != 1:
            self.engine.map(times, bottom[0].data, self.test_scale, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.phase == TRAIN:
            self.engine.map(scale_by, top[0].diff, self.mask.data, self.scale, out=bottom[0].diff)
        elif top[0] is not bottom[0] or self.test_scale != 1:
            self.engine.map(times, top[0].diff, self.test_scale, out=bottom[0].diff)
