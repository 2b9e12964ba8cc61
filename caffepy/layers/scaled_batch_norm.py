"""NVIDIA's BatchNorm: statistics, scale and bias in one layer."""

from __future__ import annotations

from typing import Any

from caffepy.layers.channel_norm import ChannelNorm
from caffepy.net.blob import Array, Blob
from caffepy.proto.caffe_pb2 import TEST, BatchNormParameter

LEAST_EPS = 1e-5
COPIED = 2
"""So many batches at first are copied into the stored statistics, instead of blended."""


def asked_for(p: BatchNormParameter) -> bool:
    """Whether the fields are those of NVIDIA's Caffe (0.16 on), which add a scale and a bias."""
    return p.scale_bias or p.HasField("scale_filler") or p.HasField("bias_filler")


class ScaledBatchNorm(ChannelNorm):
    """y = scale (x - mean) / sqrt(variance + eps) + bias, BatchNorm with `batch_norm_param.scale_bias` or a filler.

    TRAIN: mean and (uncorrected) variance of the batch. TEST or `use_global_stats`: the stored ones as they are:
    nothing divides by the third parameter. eps is at least 1e-5. Parameters: mean, variance + eps, a factor without
    use, scale, bias; s = f s + (1 - f) batch with f = `moving_average_fraction`, after two batches that are copied.
    """

    type = "BatchNorm"
    places = (3, 4)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.batch_norm_param
        self.stored = p.use_global_stats or self.phase == TEST
        self.eps, self.batches = max(p.eps, LEAST_EPS), 0
        shape = (self.channels,)
        for _ in range(2):
            self.add_blob(shape)
        self.add_blob((1,)).data[...] = 1
        self.add_filled(shape, p.scale_filler, p.HasField("scale_filler"), 1)
        self.add_filled(shape, p.bias_filler, p.HasField("bias_filler"), 0)
        self.freeze(0, 1, 2)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.stored:
            self.normalize(bottom, top, *self.stored_statistics())
            return
        mean, variance = self.batch_statistics(bottom)
        fraction = self.param.batch_norm_param.moving_average_fraction if self.batches >= COPIED else 0.0
        for blob, value in zip(self.blobs[:2], (mean, variance + self.eps)):
            blob.data[...] = fraction * blob.data + (1 - fraction) * value
        self.batches = min(self.batches + 1, COPIED)
        self.normalize(bottom, top, mean, 1 / self.xp.sqrt(variance + self.eps))

    def stored_statistics(self) -> tuple[Array, Array]:
        mean, variance = (blob.data for blob in self.blobs[:2])
        return mean, 1 / self.xp.sqrt(variance + self.eps)

    def state(self) -> dict[str, Any]:
        return {} if self.stored else {"batches": self.batches}

    def set_state(self, state: dict[str, Any]) -> None:
        self.batches = state.get("batches", self.batches)
