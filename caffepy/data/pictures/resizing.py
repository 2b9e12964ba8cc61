"""SSD's `resize_param`: pictures scaled to a size, and where boxes are before and after."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures import boxes, image
from caffepy.data.pictures.boxes import UNIT, Array
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import ResizeParameter

PADDING = {
    ResizeParameter.CONSTANT: "constant",
    ResizeParameter.MIRRORED: "reflect",
    ResizeParameter.REPEAT_NEAREST: "edge",
}


def check(p: ResizeParameter) -> None:
    """Raises ConfigError for a `resize_param` without size."""
    if not p.height or not p.width:
        raise ConfigError("resize_param needs height and width", hint="Write resize_param { height: 300 width: 300 }.")


def resized(picture: Array, p: ResizeParameter, random: np.random.Generator | None = None) -> Array:
    """A uint8 picture (C, H, W) as `resize_param` says; one of several `interp_mode`s is drawn."""
    modes = list(p.interp_mode) or [ResizeParameter.LINEAR]
    mode = modes[int(random.integers(len(modes))) if random is not None and len(modes) > 1 else 0]
    scaled = image.resize(picture, *scaled_size(p, *picture.shape[1:]), ResizeParameter.Interp_mode.Name(mode))
    return _padded(scaled, p) if p.resize_mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD else scaled


def scaled_size(p: ResizeParameter, height: int, width: int) -> tuple[int, int]:
    """Height and width of a scaled picture, before it is padded."""
    if p.resize_mode == ResizeParameter.WARP:
        return p.height, p.width
    ratio = np.float32(width) / np.float32(height)
    flat = bool(ratio > np.float32(p.width) / np.float32(p.height))
    if flat == (p.resize_mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD):  # the width is what was said
        return max(1, int(np.float32(p.width) / ratio)), p.width
    return p.height, max(1, int(ratio * np.float32(p.height)))


def _padded(picture: Array, p: ResizeParameter) -> Array:
    """In the middle of a canvas of the size that was said."""
    channels = picture.shape[0]
    if len(p.pad_value) not in (0, 1, channels):
        raise ConfigError(f"{len(p.pad_value)} pad_value for {channels} channels; give one, or one for each")
    missing = [size - side for size, side in zip((p.height, p.width), picture.shape[1:])]
    sides = [(0, 0), *((m // 2, m - m // 2) for m in missing)]
    if p.pad_mode != ResizeParameter.CONSTANT:
        return np.pad(picture, sides, PADDING[p.pad_mode])  # type: ignore[call-overload]
    values = np.broadcast_to(np.asarray(list(p.pad_value) or [0], np.uint8), channels)
    return np.stack([np.pad(plane, sides[1:], constant_values=v) for plane, v in zip(picture, values)])


def content(p: ResizeParameter, height: int, width: int) -> Array:
    """The box that a picture of this size has in what it is resized to: all but the padding."""
    if p.resize_mode != ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
        return UNIT
    ratio = width / height
    if ratio > p.width / p.height:
        pad = (p.height - p.width / ratio) / 2 / p.height
        return np.array([0, pad, 1, 1 - pad], np.float32)
    pad = (p.width - p.height * ratio) / 2 / p.width
    return np.array([pad, 0, 1 - pad, 1], np.float32)


def moved(given: Array, p: ResizeParameter, height: int, width: int) -> Array:
    """Boxes (K, 4) of a picture of this size in what it is resized to."""
    return boxes.locate(boxes.clip(given), content(p, height, width))


def stretched(given: Array, p: ResizeParameter, height: int, width: int, crop: Array) -> Array:
    """Boxes of a crop as shares of `width_scale` and `height_scale` pixels in place of the crop's: FIT_SMALL_SIZE."""
    if p.resize_mode != ResizeParameter.FIT_SMALL_SIZE or not (p.height_scale and p.width_scale):
        return given
    scale = max(p.height / height, p.width / width)
    sides = np.array([width, height]) * scale * (crop[2:] - crop[:2]) / [p.width_scale, p.height_scale]
    return given * np.tile(sides, 2).astype(given.dtype)


def in_pixels(given: Array, p: ResizeParameter | None, height: int, width: int) -> Array:
    """Boxes (K, 4) of a network's input in pixels of the picture of this size that was resized to that."""
    if p is not None and p.resize_mode == ResizeParameter.FIT_SMALL_SIZE and p.height_scale and p.width_scale:
        return boxes.clip(given * _four(p.width_scale, p.height_scale), height, width)
    inside = given if p is None else boxes.project(given, content(p, height, width))
    return boxes.clip(inside) * _four(width, height)


def _four(across: float, down: float) -> Array:
    """A factor for each coordinate of a box."""
    return np.array([across, down, across, down], np.float32)
