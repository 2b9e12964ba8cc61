"""MultinomialLogisticLoss: -log of the label's probability."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.layers import labels
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register

LOG_THRESHOLD = 1e-20


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """L = -sum of log max(p[label], 1e-20) / N. p (N, K, ...) up to four axes are probabilities, labels (N)."""

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
        p = self.by_item(bottom[0].data)
        given = bottom[1].data.reshape((-1, 1))
        self.index = labels.read_labels(self, given, p.shape[1], None, self.bottom_name(1), bottom[1].shape)
        self.picked = xp.clip(xp.take_along_axis(p, self.index, axis=1), LOG_THRESHOLD, None)
        top[0].data[...] = -xp.sum(xp.log(self.picked)) / p.shape[0]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        xp, n = self.xp, bottom[0].shape[0]
        p = self.by_item(bottom[0].data)
        right = xp.reshape(xp.arange(p.shape[1]), (1, -1)) == self.index
        dx = xp.where(right, -1 / self.picked, 0.0 * self.picked) * (top[0].diff / n)
        bottom[0].diff[...] = dx.reshape(bottom[0].shape)
