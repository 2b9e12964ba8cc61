"""BinaryCrossEntropy: the loss of a task on its own samples."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.layers import labels
from caffepy.layers.sigmoid import sigmoid
from caffepy.layers.sigmoid_cross_entropy_loss import cross_entropy
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter

LEAST = 1e-7
"""Probabilities are kept this far from 0 and 1."""


@register("BinaryCrossEntropy")
class BinaryCrossEntropy(LossLayer):
    """L = -sum of m w (t log p + (1 - t) log(1 - p)) / normalizer.

    Bottoms: p (N, ...), or with `binary_cross_entropy_param { logits: true }` x, p its sigmoid; targets t in 0 .. 1;
    then, each only behind the one before, the task's mask m, of which all that is not 0 counts as 1, and weights w. All
    of one count. `loss_param.normalization`: by default VALID, the number of values in the mask (at least 1, so that
    a batch without any has the loss 0). Probabilities are kept 1e-7 from 0 and 1.
    """

    num_bottom = (2, 4)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.mode = labels.normalization(self.param.loss_param, LossParameter.VALID)
        self.logits = self.param.binary_cross_entropy_param.logits

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        for i, blob in enumerate(bottom):
            if blob.count != bottom[0].count:
                what = ("", "the targets", "the mask", "the weights")[i]
                raise ShapeError(
                    f"{self.bottom_name(0)} {bottom[0].shape} and {what} {self.bottom_name(i)} {blob.shape} must have "
                    "the same count"
                )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        x, target, factor, valid = self._read(bottom)
        if self.logits:
            losses = cross_entropy(xp, x, target)
        else:
            losses = -(target * xp.log(x) + (1 - target) * xp.log1p(-x))
        self.normalizer = labels.normalizer(xp, self.mode, bottom[0].count, bottom[0].shape[0], valid)
        top[0].data[...] = xp.sum(losses if factor is None else losses * factor) / self.normalizer

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        x, target, factor, _ = self._read(bottom)
        dx = sigmoid(self.xp, x) - target if self.logits else (x - target) / (x * (1 - x))
        if factor is not None:
            dx = dx * factor
        bottom[0].diff[...] = dx * (top[0].diff / self.normalizer)

    def _read(self, bottom: list[Blob]) -> tuple[Array, Array, Array | None, Array]:
        """x and targets, mask times weights (None: all 1), and the number of values in the mask.

        Outside the mask anything may stand, NaN for a target that nobody knows: what counts for nothing is 0.5 here.
        """
        xp, shape = self.xp, bottom[0].shape
        x, target, *others = (blob.data.reshape(shape) for blob in bottom)
        factor, valid = None, xp.full((), bottom[0].count)
        if others:
            mask = others[0] != 0
            x, target = (xp.where(mask, array, xp.full_like(array, 0.5)) for array in (x, target))
            factor, valid = xp.astype(mask, xp.float32), xp.sum(mask)
            if len(others) > 1:
                factor = factor * others[1]
        return x if self.logits else xp.clip(x, LEAST, 1 - LEAST), target, factor, valid
