"""CenterLoss: features near the centre of their class."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers import labels
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register


@register("CenterLoss")
class CenterLoss(LossLayer):
    """L = sum of |x - c[label]|^2 / (2 N), x (N, ...), labels (N), centres c (`num_output`, K) (Wen et al. 2016).

    `center_loss_param.axis`: the axes from there on are the K features. dx = (x - c) * weight / N. The centres move
    by the paper's rule, whatever the weight: their gradient is, for each class, the sum of c - x over its n items,
    divided by n + 1.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.center_loss_param
        if p.num_output < 1:
            raise ConfigError("center_loss_param.num_output must be the number of classes, at least 1")
        axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        self.items, self.features = prod(bottom[0].shape[:axis]), prod(bottom[0].shape[axis:])
        self.add_blob((p.num_output, self.features), p.center_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.items = bottom[1].count
        if bottom[0].count != self.items * self.features:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} must have {self.features} features for each of the "
                f"{self.items} labels {self.bottom_name(1)}"
            )
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, classes = self.xp, self.blobs[0].shape[0]
        given, shape = bottom[1].data.reshape((-1,)), bottom[1].shape
        self.index = labels.read_labels(self, given, classes, None, self.bottom_name(1), shape)
        x = bottom[0].data.reshape((self.items, self.features))
        self.difference = x - xp.take(self.blobs[0].data, self.index, axis=0)
        top[0].data[...] = xp.sum(self.difference * self.difference) / (2 * self.items)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.param_propagate_down[0]:
            count = self.engine.zeros(self.blobs[0].shape[0]) + 1
            ones = self.engine.zeros(self.items) + 1
            self.engine.scatter_add(count.reshape((-1, 1)), self.index, ones.reshape((-1, 1)))
            step = -self.difference / self.xp.take(count, self.index).reshape((-1, 1))
            self.engine.scatter_add(self.blobs[0].diff, self.index, step)
        if propagate_down[0]:
            bottom[0].diff[...] = (self.difference * (top[0].diff / self.items)).reshape(bottom[0].shape)
