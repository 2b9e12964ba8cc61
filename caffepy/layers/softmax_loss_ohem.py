"""SoftmaxWithLossOHEM: the softmax loss, with the loss of each label for online hard example mining (R-FCN)."""

from __future__ import annotations

from caffepy.layers.softmax_loss import FLOAT_MIN, SoftmaxWithLoss
from caffepy.net.blob import Blob
from caffepy.net.layer import register


@register("SoftmaxWithLossOHEM")
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss with two more tops: probabilities of the bottom's shape, and the loss of each label, not divided.

    Ignored labels have a loss of 0. The gradient is that of the first top alone.
    """

    num_top = (1, 3)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top[:1])

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        for blob, like in zip(top[1:], bottom):
            blob.reshape_like(like)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        super().forward(bottom, top)
        if len(top) > 1:
            top[1].data[...] = self.p.reshape(top[1].shape)
        if len(top) > 2:
            picked = xp.take_along_axis(self.p, self.index, axis=1)
            losses = xp.where(self.valid, -xp.log(xp.clip(picked, FLOAT_MIN, None)), 0)
            top[2].data[...] = losses.reshape(top[2].shape)
