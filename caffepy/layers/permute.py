"""Permute: the axes in another order."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Permute")
class Permute(Layer):
    """y's axis i is x's axis `permute_param.order`[i]; axes that are not named follow in their order.

    From SSD, where order 0 2 3 1 brings the channels of predictions (N, C, H, W) to the end.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, named = bottom[0].shape, list(self.param.permute_param.order)
        if any(axis >= len(shape) for axis in named) or len(set(named)) != len(named):
            raise ConfigError(
                f"order {named} must name axes of {self.bottom_name(0)} {shape}, 0 to {len(shape) - 1}, each once"
            )
        self.order = (*named, *(axis for axis in range(len(shape)) if axis not in named))
        self.inverse = tuple(self.order.index(axis) for axis in range(len(shape)))
        top[0].reshape(tuple(shape[axis] for axis in self.order))

    def divisible(self) -> bool:
        return self.order[:1] == (0,)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = self.xp.permute_dims(bottom[0].data, self.order)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff[...] = self.xp.permute_dims(top[0].diff, self.inverse)
