"""Augmentation beyond Caffe, in TRAIN: random resized crops, colour jitter, random erasing."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np

from caffepy.data.pictures.image import resize
from caffepy.errors import ConfigError, DataError
from caffepy.proto.caffe_pb2 import TRAIN, TransformationParameter

LONGEST = 4 / 3
"""The largest ratio of sides of a random resized crop."""
LARGEST_HOLE = 0.33
SMALLEST_HOLE = 0.02
LUMA = np.array([0.114, 0.587, 0.299], np.float32).reshape(3, 1, 1)  # of B, G, R


class Augmenter:
    """What is done to a picture before Caffe's transformation (`before`) and after it (`after`)."""

    def __init__(self, param: TransformationParameter, phase: int):
        self.param = param
        self.jitter = bool(param.brightness or param.contrast or param.saturation)
        self.cut = param.min_crop_area < 1
        self.active = phase == TRAIN and (self.jitter or self.cut or param.erase > 0)
        if not 0 < param.min_crop_area <= 1:
            raise ConfigError(f"min_crop_area {param.min_crop_area:g} is no share of an area: it is in (0, 1]")
        if not 0 <= param.erase <= 1:
            raise ConfigError(f"erase {param.erase:g} is no probability: it is in [0, 1]")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(param, name) <= 1:
                raise ConfigError(f"{name} {getattr(param, name):g} is not in [0, 1]")
        if self.cut and not param.crop_size:
            raise ConfigError("min_crop_area needs crop_size, the size that parts are resized to")
        if self.cut and param.HasField("mean_file"):
            raise ConfigError(
                "min_crop_area cannot go with mean_file, whose pixels have a place", hint="Use mean_value instead."
            )

    def before(self, image: np.ndarray, random: np.random.Generator, where: str) -> np.ndarray:
        """A part of the uint8 picture (C, H, W) in other colours, float32 if jittered."""
        if (self.cut or self.jitter) and image.dtype != np.uint8:
            raise DataError("augmentation takes pictures of bytes, this record has float_data", where=where)
        if self.cut:
            image = resized_crop(image, self.param.crop_size, self.param.min_crop_area, random)
        return jitter(image, self.param, random) if self.jitter else image

    def after(self, out: np.ndarray, random: np.random.Generator | None) -> None:
        """Set a random rectangle of the transformed picture to 0."""
        if random is not None and random.random() < self.param.erase:
            _, height, width = out.shape
            h, w = sides(height, width, random.uniform(SMALLEST_HOLE, LARGEST_HOLE), 1 / 0.3, random)
            top, left = random.integers(height - h + 1), random.integers(width - w + 1)
            out[:, top : top + h, left : left + w] = 0


def resized_crop(image: np.ndarray, size: int, least: float, random: np.random.Generator) -> np.ndarray:
    """A part of `least` .. 1 of the area, its ratio of sides log-uniform up to 4:3, resized to `size` squared."""
    _, height, width = image.shape
    h, w = sides(height, width, random.uniform(least, 1), LONGEST, random)
    top, left = random.integers(height - h + 1), random.integers(width - w + 1)
    return resize(image[:, top : top + h, left : left + w], size, size)


def sides(height: int, width: int, share: float, longest: float, random: np.random.Generator) -> tuple[int, int]:
    """Height and width of a part that has a share of the area, cut to fit."""
    ratio = exp(random.uniform(-log(longest), log(longest)))
    area = share * height * width
    h, w = round(sqrt(area / ratio)), round(sqrt(area * ratio))
    return min(max(h, 1), height), min(max(w, 1), width)


def jitter(image: np.ndarray, param: TransformationParameter, random: np.random.Generator) -> np.ndarray:
    """x b, then grey + (x - grey) c about the mean grey, then about each pixel's grey; 0 .. 255."""
    brightness, contrast, saturation = (
        np.float32(random.uniform(1 - v, 1 + v)) for v in (param.brightness, param.contrast, param.saturation)
    )
    x = image * brightness
    colour = image.shape[0] == 3
    mean = (x * LUMA).sum(axis=0).mean(dtype=np.float32) if colour else x.mean(dtype=np.float32)
    x = mean + (x - mean) * contrast
    if colour:
        grey = (x * LUMA).sum(axis=0)
        x = grey + (x - grey) * saturation
    return np.clip(x, 0, 255, out=x)
