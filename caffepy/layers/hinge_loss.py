"""HingeLoss: one against all others."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.layers import labels
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import HingeLossParameter


@register("HingeLoss")
class HingeLoss(LossLayer):
    """L = sum of m (`norm: L1`) or m^2 (`L2`) / N, m = max(0, 1 - x) for the label, max(0, 1 + x) for the rest.

    x (N, ...) up to four axes, labels (N) index into the flattened item.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.check_axes(bottom)
        if bottom[1].count != bottom[0].shape[0]:
            raise ShapeError(
                f"the labels {self.bottom_name(1)} {bottom[1].shape} must be one for each of the "
                f"{bottom[0].shape[0]} items of {self.bottom_name(0)}"
            )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        x = self.by_item(bottom[0].data)
        given = bottom[1].data.reshape((-1,))
        index = labels.read_labels(self, given, x.shape[1], None, self.bottom_name(1), bottom[1].shape)
        right = xp.reshape(xp.arange(x.shape[1]), (1, -1)) == index.reshape((-1, 1))
        self.sign = xp.where(right, xp.full_like(x, -1.0), xp.full_like(x, 1.0))
        self.margin = xp.maximum(1 + self.sign * x, 0)
        squared = self.param.hinge_loss_param.norm == HingeLossParameter.L2
        top[0].data[...] = xp.sum(self.margin * self.margin if squared else self.margin) / x.shape[0]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        scale = top[0].diff / bottom[0].shape[0]
        if self.param.hinge_loss_param.norm == HingeLossParameter.L2:
            dx = 2 * self.sign * self.margin * scale
        else:
            dx = self.sign * (self.margin > 0) * scale
        bottom[0].diff[...] = dx.reshape(bottom[0].shape)
