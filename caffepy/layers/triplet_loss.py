"""TripletLoss: an anchor nearer to its positive than to its negative, by a margin."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register


@register("TripletLoss")
class TripletLoss(LossLayer):
    """L = sum of max(|a - p|^2 - |a - n|^2 + margin, 0) / (2 N): anchors, positives, negatives (N, ...) of one shape.

    `triplet_loss_param.margin`, which MyCaffe calls `alpha`. A fourth bottom, labels, is not read (Schroff et al.
    2015).
    """

    num_bottom = (3, 4)
    takes_label = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.triplet_loss_param
        if p.HasField("margin") and p.HasField("alpha"):
            raise ConfigError("both margin and alpha, two names for one thing, are given", hint="Keep one of the two.")
        self.margin = p.alpha if p.HasField("alpha") else p.margin

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < 3

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i in (1, 2):
            if bottom[i].shape != bottom[0].shape:
                raise ShapeError(
                    f"anchors, positives and negatives must have one shape, but {self.bottom_name(0)} is "
                    f"{bottom[0].shape} and {self.bottom_name(i)} is {bottom[i].shape}"
                )
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        anchor, positive, negative = (self.by_item(blob.data) for blob in bottom[:3])
        self.near, self.far = anchor - positive, anchor - negative
        gap = xp.sum(self.near * self.near - self.far * self.far, axis=1, keepdims=True) + self.margin
        self.active = gap > 0
        top[0].data[...] = xp.sum(xp.where(self.active, gap, 0.0 * gap)) / (2 * anchor.shape[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        share = self.active * (top[0].diff / bottom[0].shape[0])
        gradients = self.near - self.far, -self.near, self.far
        for blob, gradient, wanted in zip(bottom, gradients, propagate_down):
            if wanted:
                blob.diff[...] = (gradient * share).reshape(blob.shape)
