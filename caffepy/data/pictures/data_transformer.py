"""Transformation of pictures: crop, mirror, mean and scale, as Caffe's `transform_param` says."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from caffepy.data.pictures.image import mirrored
from caffepy.errors import CaffeError, ConfigError, DataError, ShapeError
from caffepy.files import read_bytes
from caffepy.proto.blobs import proto_to_array
from caffepy.proto.caffe_pb2 import TRAIN, BlobProto, TransformationParameter

SMALL = 1 << 14
"""Values of a picture below which a batch is transformed in one pass; for larger ones the copy costs more."""


class Choice(NamedTuple):
    """What was drawn for one picture."""

    mirror: bool
    top: int
    left: int

    def box(self, image: tuple[int, ...], crop: tuple[int, int]) -> np.ndarray:
        """The crop of this height and width (0: none) as a box, xmin, ymin, xmax, ymax, in a picture (C, H, W)."""
        _, height, width = image
        rows, columns = crop[0] or height, crop[1] or width
        box = self.left / width, self.top / height, (self.left + columns) / width, (self.top + rows) / height
        return np.array(box, np.float32)


class DataTransformer:
    """value = (pixel - mean) * scale of a crop, mirrored or not.

    TEST crops the centre, TRAIN at random; mirroring (where asked for) is random in both phases. `mean_value` serves
    all channels or gives one each; `mean_file` is read at the position in the uncropped picture.
    """

    def __init__(self, param: TransformationParameter, phase: int):
        self.param, self.phase = param, phase
        if param.HasField("mean_file") and param.mean_value:
            raise ConfigError("mean_file and mean_value are both given", hint="Keep one of the two.")
        if param.force_color and param.force_gray:
            raise ConfigError("force_color and force_gray are both set", hint="Keep one of the two.")
        if bool(param.crop_h) != bool(param.crop_w) or (param.crop_size and param.crop_h):
            raise ConfigError("give crop_size, or crop_h and crop_w")
        self.crop = (param.crop_h or param.crop_size, param.crop_w or param.crop_size)
        """Height and width of a crop, 0 for none."""

    @property
    def random(self) -> bool:
        """Whether Caffe gives the transformer a generator of its own."""
        return self.param.mirror or (self.phase == TRAIN and self.crop[0] > 0)

    @cached_property
    def mean(self) -> np.ndarray | None:
        """(C, H, W) of `mean_file`, or (C or 1, 1, 1) of `mean_value`."""
        if self.param.HasField("mean_file"):
            mean = read_mean(self.param.mean_file)
            return np.ascontiguousarray(mean.transpose(1, 2, 0)).transpose(2, 0, 1)  # as pictures lie in memory
        if self.param.mean_value:
            return np.array(self.param.mean_value, np.float32).reshape(-1, 1, 1)
        return None

    def shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the result for a picture (C, H, W); raises ShapeError where it cannot be."""
        channels, height, width = image
        rows, columns = self.crop
        if rows > height or columns > width:
            size = f"crop_size {rows}" if self.param.crop_size else f"the crop {rows}x{columns}"
            raise ShapeError(
                f"{size} is larger than the picture, {height}x{width}",
                hint="Make crop_size smaller, or the pictures larger.",
            )
        if self.mean is not None:
            if self.param.HasField("mean_file") and self.mean.shape != image:
                raise ShapeError(
                    f"the mean file has shape {self.mean.shape}, the pictures have {image}",
                    hint="Make one of these pictures with `caffepy compute-image-mean`, or set mean_value instead.",
                )
            if self.mean.shape[0] not in (1, channels):
                raise ShapeError(
                    f"{self.mean.shape[0]} mean_value(s) for {channels} channel(s)",
                    hint="Give one for all channels, or one for each.",
                )
        return (channels, rows, columns) if rows else image

    def draw(self, image: tuple[int, int, int], random: np.random.Generator | None) -> Choice:
        """Draw as Caffe does: mirror, then row, then column."""
        _, height, width = image
        rows, columns = self.crop
        mirror = bool(self.param.mirror and _below(random, 2))
        if not rows:
            return Choice(mirror, 0, 0)
        if self.phase == TRAIN:
            top = _below(random, height - rows + 1)
            return Choice(mirror, top, _below(random, width - columns + 1))
        return Choice(mirror, (height - rows) // 2, (width - columns) // 2)

    def apply(self, image: np.ndarray, choice: Choice, out: np.ndarray) -> None:
        """Write the transformed (C, H, W) picture of any number type into `out`, float32 of `shape`."""
        _, height, width = out.shape
        window = (slice(None), slice(choice.top, choice.top + height), slice(choice.left, choice.left + width))
        mean = self.mean
        if mean is not None and self.param.HasField("mean_file"):
            mean = mean[window]
        if image.shape[0] > 1 and _channels_last(image) and _channels_last(out):
            self._apply_rows(image[window], mean, choice.mirror, out)
            return
        target = out[:, :, ::-1] if choice.mirror else out
        if mean is None:
            np.multiply(image[window], np.float32(self.param.scale), out=target)
            return
        np.subtract(image[window], mean, out=target)
        if self.param.scale != 1:
            out *= np.float32(self.param.scale)

    def _apply_rows(self, image: np.ndarray, mean: np.ndarray | None, mirror: bool, out: np.ndarray) -> None:
        """`apply` where channels lie side by side: whole rows at a time, four times as fast as runs of channels."""
        rows, target = _rows(image, mirror), _rows(out, False)
        if mean is None:
            np.multiply(rows, np.float32(self.param.scale), out=target)
            return
        per_pixel: np.ndarray | np.float32 = (
            np.tile(mean.ravel(), image.shape[2]) if mean.size == image.shape[0] else mean
        )
        if per_pixel.ndim == 3:
            per_pixel = np.float32(mean[0, 0, 0]) if mean.size == 1 else _rows(mean, mirror)
        np.subtract(rows, per_pixel, out=target)
        if self.param.scale != 1:
            target *= np.float32(self.param.scale)

    def apply_all(self, images: list[np.ndarray], choices: list[Choice], out: np.ndarray) -> None:
        """`apply` for a batch, `out` (N, C, H, W); one pass where nothing differs from picture to picture."""
        alike = len({c[1:] for c in choices}) == 1 and len({image.shape for image in images}) == 1
        if alike and images[0].size < SMALL and not any(c.mirror for c in choices):
            _, _, height, width = out.shape
            _, top, left = choices[0]
            window = (slice(None), slice(top, top + height), slice(left, left + width))
            batch = np.stack([image[window] for image in images])
            if self.mean is not None:
                batch = batch - (self.mean[window] if self.param.HasField("mean_file") else self.mean)
            np.multiply(batch, np.float32(self.param.scale), out=out)
        else:
            for image, choice, target in zip(images, choices, out):
                self.apply(image, choice, target)


_MAKE_MEAN = "A mean file (.binaryproto) is made with `caffepy compute-image-mean`."


def read_mean(path: str) -> np.ndarray:
    """A mean file, a BlobProto (1, C, H, W), as (C, H, W)."""
    proto = BlobProto()
    try:
        raw = read_bytes(path)
    except CaffeError as error:
        raise DataError(f"the mean file: {error.message}", where=path, hint=error.hint or _MAKE_MEAN) from None
    try:
        proto.ParseFromString(raw)
        mean = proto_to_array(proto)
    except (DecodeError, CaffeError) as error:
        raise DataError(f"this is no mean file: {error}", where=path, hint=_MAKE_MEAN) from None
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or not mean.size:
        raise DataError(f"a mean file holds one picture (1, C, H, W), this one {mean.shape}", where=path)
    return mean


def _below(random: np.random.Generator | None, limit: int) -> int:
    assert random is not None
    return int(random.bit_generator.random_raw()) % limit


def _channels_last(array: np.ndarray) -> bool:
    """Whether the pixels of a (C, H, W) view are runs of channels, and rows runs of pixels."""
    return array.strides[0] == array.itemsize and array.strides[2] == array.itemsize * array.shape[0]


def _rows(image: np.ndarray, mirror: bool) -> np.ndarray:
    """A channels-last (C, H, W) picture as (H, W * C), a view unless mirrored."""
    channels, height, width = image.shape
    pixels = image.transpose(1, 2, 0)
    if mirror:
        pixels = mirrored(pixels)
    return pixels.reshape(height, width * channels)
