"""Tile: copies along an axis."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Tile")
class Tile(Layer):
    """The block that starts at `tile_param.axis` (1), `tiles` times behind itself: that axis grows by `tiles`."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.tile_param, bottom[0].shape
        if not p.HasField("tiles"):
            raise ConfigError("tile_param.tiles is not set", hint="Say how many copies.")
        if p.tiles <= 0:
            raise ConfigError(f"tile_param.tiles must be at least 1, got {p.tiles}")
        self.axis = self.canonical_axis(p.axis, len(shape))
        self.tiled = (*shape[: self.axis], p.tiles, *shape[self.axis :])
        top[0].reshape((*shape[: self.axis], shape[self.axis] * p.tiles, *shape[self.axis + 1 :]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        tiles = self.xp.broadcast_to(self.xp.expand_dims(bottom[0].data, axis=self.axis), self.tiled)
        top[0].data[...] = tiles.reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            bottom[0].diff[...] = self.xp.sum(top[0].diff.reshape(self.tiled), axis=self.axis)
