"""SmoothL1Loss, SmoothL1LossOHEM: quadratic for small differences, linear for large ones."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers import labels
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter


def smooth_l1(xp, d: Array, sigma: float = 1.0) -> Array:
    """sigma^2 d^2 / 2 where |d| < 1 / sigma^2, |d| - 1 / (2 sigma^2) elsewhere."""
    size, bend = xp.abs(d), 1 / sigma**2
    return xp.where(size < bend, d * d * (0.5 * sigma**2), size - 0.5 * bend)


def smooth_l1_grad(xp, d: Array, sigma: float = 1.0) -> Array:
    """sigma^2 d where |d| < 1 / sigma^2, the sign of d elsewhere."""
    return xp.clip(d * sigma**2, -1, 1)


def divisor(param: LossParameter, shape: tuple[int, ...]) -> float:
    """R-FCN's: the items and positions of (N, C, ...), or what `normalization` says, at least 1."""
    mode = labels.normalization(param, LossParameter.VALID)
    counts = {LossParameter.PRE_FIXED: param.pre_fixed_normalizer, LossParameter.BATCH_SIZE: shape[0]}
    return max(1.0, counts.get(mode, 1 if mode == LossParameter.NONE else shape[0] * prod(shape[2:])))


@register("SmoothL1Loss")
class SmoothL1Loss(LossLayer):
    """L = sum of w_out * smooth_l1(w_in * (a - b), sigma) / N, N the first axis (Girshick 2015, Ren et al. 2015).

    Bottoms a, b (N, C, ...), then w_in and w_out of the same shape, 1 where they are not there. Both a and b get
    gradients, weights none. A second top (N, 1, ...) has the loss of each item and position, summed over C. With it,
    or with `loss_param.normalization`, the layer is R-FCN's, which divides by all positions (VALID, FULL), by N
    (BATCH_SIZE), by `pre_fixed_normalizer` (PRE_FIXED) or by 1 (NONE). The forks' version of three bottoms leaves w_in
    out of the gradient; here it is in, which is the same where weights are 0 and 1.
    """

    num_bottom = (2, 4)
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.sigma = self.param.smooth_l1_loss_param.sigma
        if self.sigma <= 0:
            raise ConfigError(f"sigma must be positive, got {self.sigma:g}")

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        for i, blob in enumerate(bottom[1:], 1):
            if blob.count != bottom[0].count:
                raise ShapeError(
                    f"{self.bottom_name(0)} {shape} and {self.bottom_name(i)} {blob.shape} must have one shape"
                )
        self.divisor = self.divisor_for(shape, len(top))
        if len(top) > 1:
            top[1].reshape((shape[0], 1, *(*shape[2:], 1, 1)[: max(2, len(shape) - 2)]))

    def divisor_for(self, shape: tuple[int, ...], tops: int) -> float:
        p = self.param.loss_param
        if tops > 1 or p.HasField("normalization") or p.HasField("normalize"):
            return divisor(p, shape)
        return float(max(1, shape[0]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, shape = self.xp, bottom[0].shape
        self.difference = bottom[0].data - bottom[1].data.reshape(shape)
        if len(bottom) > 2:
            self.difference = self.difference * bottom[2].data.reshape(shape)
        losses = smooth_l1(xp, self.difference, self.sigma)
        if len(bottom) > 3:
            losses = losses * bottom[3].data.reshape(shape)
        top[0].data[...] = xp.sum(losses) / self.divisor
        if len(top) > 1:
            top[1].data[...] = xp.sum(losses, axis=1).reshape(top[1].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        dx = smooth_l1_grad(self.xp, self.difference, self.sigma) * (top[0].diff / self.divisor)
        for weights in bottom[2:]:
            dx = dx * weights.data.reshape(dx.shape)
        for blob, sign, wanted in zip(bottom[:2], (1.0, -1.0), propagate_down):
            if wanted:
                blob.diff[...] = (sign * dx).reshape(blob.shape)


@register("SmoothL1LossOHEM")
class SmoothL1LossOHEM(SmoothL1Loss):
    """SmoothL1Loss as R-FCN's later versions call it: two or three bottoms, divided as `loss_param` says."""

    num_bottom = (2, 3)

    def divisor_for(self, shape: tuple[int, ...], tops: int) -> float:
        return divisor(self.param.loss_param, shape)
