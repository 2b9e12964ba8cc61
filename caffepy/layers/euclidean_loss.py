"""EuclideanLoss: half the mean squared distance."""

from __future__ import annotations

from math import prod

from caffepy.errors import ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register


@register("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """L = sum of (a - b)^2 / (2 N), N the first axis. Both bottoms (N, ...), up to four axes, may get gradients.

    Only the first axis and the count of each item must agree.
    """

    param_field = "loss_param"
    regression = True

    def allow_force_backward(self, bottom_index: int) -> bool:
        return True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.check_axes(bottom)
        if prod(bottom[0].shape[1:]) != prod(bottom[1].shape[1:]):
            raise ShapeError(
                f"items of {self.bottom_name(0)} {bottom[0].shape} and {self.bottom_name(1)} {bottom[1].shape} "
                "differ in size"
            )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        a = bottom[0].data
        self.difference = a - bottom[1].data.reshape(a.shape)
        top[0].data[...] = self.xp.sum(self.difference * self.difference) / (2 * bottom[0].shape[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, sign, wanted in zip(bottom, (1.0, -1.0), propagate_down):
            if wanted:
                dx = self.difference * (top[0].diff * (sign / bottom[0].shape[0]))
                blob.diff[...] = dx.reshape(blob.shape)
