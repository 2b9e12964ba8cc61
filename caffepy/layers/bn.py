"""BN: batch normalization with scale and shift in one layer, in the forms of PSPNet and of SegNet."""

from __future__ import annotations

from caffepy.layers.channel_norm import ChannelNorm
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TEST, BNParameter, LayerParameter

SEGNET_EPS = 1e-9


@register("BN")
class BN(ChannelNorm):
    """y = slope (x - mean) / sqrt(variance + eps) + bias a channel, as PSPNet's Caffe has it; x (N, C, ...).

    TRAIN: mean and (uncorrected) variance of the batch; the stored ones become `bn_param.momentum` * stored +
    (1 - momentum) * batch. TEST, or `frozen`: the stored ones; frozen learns nothing. Parameters, all (1, C, 1, 1):
    slope, bias, mean, variance; the last two are not trained. May run in place.
    """

    @classmethod
    def form(cls, param: LayerParameter) -> type[Layer]:
        p = param.bn_param
        segnet = any(p.HasField(field) for field in ("scale_filler", "shift_filler", "bn_mode"))
        if segnet or len(param.blobs) == 2 or len(param.top) == 3:
            return LearningBN if p.bn_mode == BNParameter.LEARN else InferenceBN
        return cls

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.bn_param
        self.stored, self.learns = p.frozen or self.phase == TEST, not p.frozen
        shape = (1, self.channels, 1, 1)
        self.add_filled(shape, p.slope_filler, p.HasField("slope_filler"), 1)
        self.add_filled(shape, p.bias_filler, p.HasField("bias_filler"), 0)
        self.add_blob(shape)
        self.add_blob(shape).data[...] = float(p.frozen)
        self.freeze(*(range(4) if p.frozen else (2, 3)))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.bn_param
        if not self.stored:
            for blob, value in zip(self.blobs[2:], values := self.batch_statistics(bottom)):
                blob.data[...] = p.momentum * blob.data + (1 - p.momentum) * value.reshape(blob.shape)
        else:
            self.normalize(bottom, top, *self.stored_statistics())
            return
        mean, variance = values
        self.normalize(bottom, top, mean, 1 / self.xp.sqrt(variance + p.eps))

    def stored_statistics(self) -> tuple[Array, Array]:
        mean, variance = (blob.data.reshape((-1,)) for blob in self.blobs[2:])
        return mean, 1 / self.xp.sqrt(variance + self.param.bn_param.eps)


class _SegNetBN(ChannelNorm):
    """SegNet's BN: scale and shift, both (1, C, 1, 1), and no stored statistics. May run in place."""

    type = "BN"
    num_top = (1, 3)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p, shape = self.param.bn_param, (1, self.channels, 1, 1)
        self.add_filled(shape, p.scale_filler, p.HasField("scale_filler"), 1)
        self.add_filled(shape, p.shift_filler, p.HasField("shift_filler"), 0)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        for blob in top[1:]:
            blob.reshape(1, self.channels, 1, 1)

    def give(self, top: list[Blob], *statistics) -> None:
        """The statistics as second and third top, where there are such."""
        for blob, value in zip(top[1:], statistics):
            blob.data[...] = value.reshape(blob.shape)


class LearningBN(_SegNetBN):
    """`bn_mode: LEARN`: the statistics of the batch, in TRAIN and TEST, with eps 1e-9; tops 2 and 3 give them."""

    stored = False

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        mean, variance = self.batch_statistics(bottom)
        self.give(top, mean, variance)
        self.normalize(bottom, top, mean, 1 / self.xp.sqrt(variance + SEGNET_EPS))


class InferenceBN(_SegNetBN):
    """`bn_mode: INFERENCE`: y = scale x + shift."""

    stored = True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        mean, inverse = self.stored_statistics()
        self.give(top, mean, inverse)
        self.normalize(bottom, top, mean, inverse)

    def stored_statistics(self) -> tuple[Array, Array]:
        none = self.engine.zeros(self.channels)
        return none, none + 1
