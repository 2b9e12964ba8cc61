"""SSD's `distort_param`: random changes of brightness, contrast, saturation, hue and the order of channels."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures.boxes import Array
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import DistortionParameter

TURN = 180
"""The hue's full circle, in OpenCV's units."""


def check(p: DistortionParameter) -> None:
    """Raises ConfigError for bounds that nothing lies between."""
    for name in ("contrast", "saturation"):
        lower, upper = getattr(p, f"{name}_lower"), getattr(p, f"{name}_upper")
        if not 0 <= lower <= upper:
            raise ConfigError(f"{name}_lower and _upper must be 0 <= lower <= upper, got {lower:g} and {upper:g}")
    for name in ("brightness_delta", "hue_delta"):
        if getattr(p, name) < 0:
            raise ConfigError(f"{name} must not be negative, got {getattr(p, name):g}")


def distorted(picture: Array, p: DistortionParameter, random: np.random.Generator) -> Array:
    """A uint8 picture (C, H, W), B, G, R, in other colours. Saturation and hue are those of three channels alone."""
    contrast_first = random.random() > 0.5
    factors = _drawn(p, random)
    steps = ["brightness", "saturation", "hue"]
    steps.insert(1 if contrast_first else 3, "contrast")
    for step in steps:
        if step in factors and (len(picture) == 3 or step in ("brightness", "contrast")):
            picture = STEPS[step](picture, factors[step])
    if random.random() < p.random_order_prob:
        picture = picture[random.permutation(len(picture))]
    return picture


def _drawn(p: DistortionParameter, random: np.random.Generator) -> dict[str, float]:
    """What is changed, and by how much."""
    bounds = {
        "brightness": (-p.brightness_delta, p.brightness_delta),
        "contrast": (p.contrast_lower, p.contrast_upper),
        "saturation": (p.saturation_lower, p.saturation_upper),
        "hue": (-p.hue_delta, p.hue_delta),
    }
    drawn = {name: (random.random(), random.uniform(*limits)) for name, limits in bounds.items()}
    return {name: value for name, (chance, value) in drawn.items() if chance < getattr(p, f"{name}_prob")}


def brightness(picture: Array, delta: float) -> Array:
    """x + delta."""
    return _to_bytes(np.arange(256) + delta)[picture]


def contrast(picture: Array, factor: float) -> Array:
    """factor * x."""
    return _to_bytes(np.arange(256) * factor)[picture]


def saturation(picture: Array, factor: float) -> Array:
    """V - (V - x) k, V the largest channel, so that (V - smallest) / V is multiplied by the factor, up to 1."""
    x = picture.astype(np.float32)
    value = x.max(axis=0)
    chroma = value - x.min(axis=0)
    k = np.minimum(np.float32(factor), value / np.maximum(chroma, 1e-6))
    return _to_bytes(value - (value - x) * k)


def hue(picture: Array, delta: float) -> Array:
    """Another hue at the same largest and smallest channel: OpenCV's, 0 .. 180, plus delta, but not below 0."""
    blue, green, red = picture.astype(np.float32)
    value = picture.max(axis=0).astype(np.float32)
    chroma = value - picture.min(axis=0)
    scale = 1 / np.maximum(chroma, 1)
    sixth = np.where(
        value == red,
        (green - blue) * scale,
        np.where(value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    turned = np.clip(sixth % 6 * (TURN / 6) + delta, 0, 255) / (TURN / 6)
    k = (np.array([1, 3, 5], np.float32)[:, None, None] + turned.astype(np.float32)) % 6
    return _to_bytes(value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1))


STEPS = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}


def _to_bytes(x: Array) -> Array:
    return np.rint(x).clip(0, 255).astype(np.uint8)
