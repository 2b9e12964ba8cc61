"""Reorg: YOLOv2's map of fewer positions and more channels."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import ReorgParameter


def blocks_to_channels(xp, x: Array, s: int) -> Array:
    """y[n, (dy s + dx) C + c, i, j] = x[n, c, i s + dy, j s + dx]: (N, C, H, W) to (N, C s^2, H / s, W / s)."""
    n, c, h, w = x.shape
    split = x.reshape((n, c, h // s, s, w // s, s))
    return xp.permute_dims(split, (0, 3, 5, 1, 2, 4)).reshape((n, c * s**2, h // s, w // s))


def channels_to_blocks(xp, y: Array, s: int) -> Array:
    """The inverse of `blocks_to_channels`."""
    n, c, h, w = y.shape
    split = y.reshape((n, s, s, c // s**2, h, w))
    return xp.permute_dims(split, (0, 3, 4, 1, 5, 2)).reshape((n, c // s**2, h * s, w * s))


@register("Reorg")
class Reorg(Layer):
    """(N, C, H, W) to (N, C s^2, H / s, W / s), or with `reverse` to (N, C / s^2, H s, W s), s the `stride` (2).

    `reorg_param.order` says which value goes where; nothing else in a definition does. SPACE_TO_DEPTH is
    `blocks_to_channels`. DARKNET (the default) is what darknet's loop does with the wrong shape, and what YOLOv2's
    weights have learned: the bottom is read as (N, C / s^2, H s, W s), and what comes out, (N, C, H, W), as the top.
    CAFFE_PORT is the inverse of that permutation.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.reorg_param
        given = [getattr(p, name) for name in ("stride", "reorg_stride") if p.HasField(name)]
        self.stride = given[0] if given else 2
        if self.stride < 1 or any(s != self.stride for s in given):
            raise ConfigError(f"stride must be given once and be at least 1, got {', '.join(map(str, given))}")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"Reorg needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")
        p, s = self.param.reorg_param, self.stride
        n, c, h, w = bottom[0].shape
        more, fewer = (n, c * s**2, h // s, w // s), (n, c // s**2, h * s, w * s)
        plain = p.order == ReorgParameter.SPACE_TO_DEPTH
        if not (plain and not p.reverse) and c % s**2:
            raise ShapeError(f"{self.bottom_name(0)} has {c} channels, no multiple of {s}^2")
        if not p.reverse and (h % s or w % s):
            raise ShapeError(f"{self.bottom_name(0)} is {h} x {w}, no multiple of the stride {s}")
        # What the bottom is read as, and what it then becomes.
        self.to_channels = p.reverse == (p.order == ReorgParameter.CAFFE_PORT)
        self.read = bottom[0].shape if plain or not self.to_channels else fewer
        self.made = (more if plain else bottom[0].shape) if self.to_channels else fewer
        top[0].reshape(fewer if p.reverse else more)

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        move = blocks_to_channels if self.to_channels else channels_to_blocks
        top[0].data[...] = move(self.xp, bottom[0].data.reshape(self.read), self.stride).reshape(top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            move = channels_to_blocks if self.to_channels else blocks_to_channels
            bottom[0].diff[...] = move(self.xp, top[0].diff.reshape(self.made), self.stride).reshape(bottom[0].shape)
