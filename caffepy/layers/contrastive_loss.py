"""ContrastiveLoss: similar pairs together, others apart by a margin."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register


@register("ContrastiveLoss")
class ContrastiveLoss(LossLayer):
    """L = sum of d^2 for similar pairs, max(margin - d, 0)^2 for others, / (2 N); d = |a - b| (Hadsell et al. 2006).

    a, b (N, C), similarity (N): not 0 after truncation is similar. `legacy_version`: max(margin - d^2, 0).
    """

    num_bottom = 3

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.check_axes(bottom)
        n, a, b = bottom[0].shape[0], bottom[0], bottom[1]
        if a.channels != b.channels or (a.height, a.width, b.height, b.width) != (1, 1, 1, 1):
            raise ShapeError(f"{self.bottom_name(0)} {a.shape} and {self.bottom_name(1)} {b.shape} must both be (N, C)")
        if bottom[2].count != n:
            raise ShapeError(f"the similarity {self.bottom_name(2)} {bottom[2].shape} must have one value a pair, {n}")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p = self.xp, self.param.contrastive_loss_param
        n = bottom[0].shape[0]
        self.difference = self.by_item(bottom[0].data) - self.by_item(bottom[1].data)
        self.similar = xp.astype(bottom[2].data.reshape((-1, 1)), xp.int64) != 0
        squared = xp.sum(self.difference * self.difference, axis=1, keepdims=True)
        self.distance = xp.sqrt(squared)
        self.gap = p.margin - (squared if p.legacy_version else self.distance)
        apart = xp.maximum(self.gap, 0)
        losses = xp.where(self.similar, squared, apart if p.legacy_version else apart * apart)
        top[0].data[...] = xp.sum(losses) / (2 * n)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp = self.xp
        # The small constant is Caffe's, against a division by 0.
        push = -1.0 if self.param.contrastive_loss_param.legacy_version else -self.gap / (self.distance + 1e-4)
        factor = xp.where(self.similar, xp.ones_like(self.gap), xp.where(self.gap > 0, push, 0.0 * self.gap))
        dx = self.difference * factor * (top[0].diff / bottom[0].shape[0])
        for blob, sign, wanted in zip(bottom[:2], (1.0, -1.0), propagate_down):
            if wanted:
                blob.diff[...] = (sign * dx).reshape(blob.shape)
