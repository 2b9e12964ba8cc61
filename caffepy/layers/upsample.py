"""Upsample: the reverse of max Pooling by its mask, or each value repeated."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.masked import check_mask, put_by_mask, take_by_mask
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Upsample")
class Upsample(Layer):
    """y[n, c].flat[mask[n, c, i]] = x[n, c, i], 0 elsewhere; x and mask (N, C, H, W), y (N, C, h, w) (SegNet).

    The mask is a max Pooling's second top and gets no gradient; of a repeated position the last value stays.
    `upsample_param`: h x w = `upsample_h` x `upsample_w`; else H and W times `scale` (2), or `scale_h` and `scale_w`,
    less one with `pad_out_h`, `pad_out_w`. Without a mask each value is repeated in a scale_h x scale_w block (YOLO).
    """

    num_bottom = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.upsample_param
        for pair in (("upsample_h", "upsample_w"), ("scale_h", "scale_w")):
            if p.HasField(pair[0]) != p.HasField(pair[1]):
                raise ConfigError(f"{pair[0]} and {pair[1]} must both be given")
        if p.HasField("scale") and p.HasField("scale_h") and not p.HasField("upsample_h"):
            raise ConfigError("both scale and scale_h / scale_w are given", hint="Keep one of the two.")
        self.scale = (p.scale_h, p.scale_w) if p.HasField("scale_h") else (p.scale, p.scale)
        if min(self.scale) < 1:
            raise ConfigError("the scale must be at least 1")
        if any(less and s != 2 for less, s in zip(self._less(), self.scale)):
            raise ConfigError("pad_out_h and pad_out_w need a scale of 2", hint="Set upsample_h and upsample_w.")
        if len(bottom) == 1 and (p.HasField("upsample_h") or any(self._less())):
            raise ConfigError("without a mask the size follows from the scale: leave out upsample and pad_out fields")

    def _less(self) -> tuple[bool, bool]:
        p = self.param.upsample_param
        return (False, False) if p.HasField("upsample_h") else (p.pad_out_h, p.pad_out_w)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def divisible(self) -> bool:
        return True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"Upsample needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")
        p = self.param.upsample_param
        n, c, *size = bottom[0].shape
        if len(bottom) == 2:
            check_mask(self, bottom)
        if p.HasField("upsample_h"):
            out = [p.upsample_h, p.upsample_w]
        else:
            out = [s * factor - less for s, factor, less in zip(size, self.scale, self._less())]
        top[0].reshape(n, c, *out)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) == 2:
            put_by_mask(self, bottom, top[0])
            return
        with self.written_as(top[0].data, self._blocks(bottom[0])) as blocks:
            blocks[...] = bottom[0].data[:, :, :, None, :, None]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0] and len(bottom) == 2:
            take_by_mask(self, bottom, top[0])
        elif propagate_down[0]:
            bottom[0].diff[...] = self.xp.sum(top[0].diff.reshape(self._blocks(bottom[0])), axis=(3, 5))

    def _blocks(self, bottom: Blob) -> tuple[int, ...]:
        n, c, height, width = bottom.shape
        return n, c, height, self.scale[0], width, self.scale[1]
