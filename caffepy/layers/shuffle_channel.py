"""ShuffleChannel: channels of groups, interleaved."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("ShuffleChannel")
class ShuffleChannel(Layer):
    """y[:, k] = x[:, (k mod g) (C / g) + k div g], g = `shuffle_channel_param.group` (Zhang et al. 2017).

    x (N, C, ...): the channels are seen as (g, C / g) and transposed. g divides C.
    """

    pixelwise = True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.group, shape = self.param.shuffle_channel_param.group, bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"ShuffleChannel needs at least two axes (N, C), {self.bottom_name(0)} is {shape}")
        if self.group < 1 or shape[1] % self.group:
            raise ConfigError(f"group {self.group} must divide the {shape[1]} channels of {self.bottom_name(0)}")
        if top[0] is bottom[0]:
            raise ConfigError("ShuffleChannel cannot run in place", hint="Give the top a name of its own.")
        top[0].reshape(shape)

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._shuffle(bottom[0].data, top[0].data, self.group)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            self._shuffle(top[0].diff, bottom[0].diff, bottom[0].shape[1] // self.group)

    def _shuffle(self, x: Array, y: Array, group: int) -> None:
        n, channels, *size = x.shape
        grouped = x.reshape((n, group, channels // group, *size))
        with self.written_as(y, (n, channels // group, group, *size)) as shuffled:
            shuffled[...] = self.xp.permute_dims(grouped, (0, 2, 1, *range(3, len(grouped.shape))))
