"""A JPEG or PNG as a net's input, by the transform of its version."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import numpy as np

from caffepy.data.pictures import image
from caffepy.data.pictures.data_transformer import read_mean
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.serve.api.servable_pb2 import Transform
from caffepy.serve.refusal import Refused, invalid
from caffepy.serve.servable import inside


class PictureInput:
    """y = (pixel - mean) * scale of the middle of a resized picture, (C, H, W)."""

    def __init__(self, param: Transform, folder: Path, shape: tuple[int, ...]):
        """`shape` is the input's, of one item."""
        self.channels, height, width = shape
        self.param = param
        colours = 1 if param.channels == Transform.GRAY or self.channels == 1 else 3
        if colours != self.channels:
            raise ConfigError(f"the transform makes {colours} channel(s), the input has {self.channels}")
        crop = param.crop_size
        self.size = param.height or crop or height, param.width or crop or width
        rows, columns = (crop, crop) if crop else (height, width)
        if (rows, columns) != (height, width) and min(height, width) > 0:
            raise ShapeError(f"crop_size {crop} does not make the input's {height}x{width}")
        if rows > self.size[0] or columns > self.size[1]:
            raise ShapeError(f"the crop {rows}x{columns} is larger than the resized picture, {self.size}")
        top, left = (self.size[0] - rows) // 2, (self.size[1] - columns) // 2
        self.window = (slice(None), slice(top, top + rows), slice(left, left + columns))
        self.mean = self._mean(folder)

    def _mean(self, folder: Path) -> np.ndarray:
        param = self.param
        if not param.mean_file:
            mean = np.array(list(param.mean_value) or [0], np.float32).reshape(-1, 1, 1)
        else:
            if param.mean_value:
                raise ConfigError("mean_file and mean_value are both given", hint="Keep one of the two.")
            mean = read_mean(str(inside(folder, param.mean_file))).astype(np.float32)
            if mean.shape[1:] == self.size:
                mean = mean[self.window]
        rows, columns = self.window[1].stop - self.window[1].start, self.window[2].stop - self.window[2].start
        if mean.shape[0] not in (1, self.channels) or mean.shape[1:] not in ((1, 1), (rows, columns)):
            raise ShapeError(f"the mean has shape {mean.shape}, resized pictures are {self.channels}x{self.size}")
        return mean

    def __call__(self, data: bytes) -> np.ndarray:
        """The picture's values, float32 (C, H, W). Raises Refused for what does not decode."""
        try:
            pixels = image.decode(data, "the picture", self.channels, hint="Send a JPEG or PNG.")
        except CaffeError as error:
            raise invalid(str(error)) from None
        if self.param.channels == Transform.RGB:
            pixels = pixels[::-1]
        resized = pixels if pixels.shape[1:] == self.size else image.resize(pixels, *self.size)
        y = resized[self.window].astype(np.float32) - self.mean
        if self.param.scale != 1:
            y *= np.float32(self.param.scale)
        return y


def from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("INVALID_ARGUMENT", f"the b64 value does not decode: {error}") from None
