"""What SSD adds to every layer of pictures: `resize_param`, then `noise_param`, in both phases."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures import noise, resizing
from caffepy.data.pictures.boxes import Array
from caffepy.errors import ConfigError, DataError
from caffepy.proto.caffe_pb2 import TransformationParameter

OF_OBJECTS = ("distort_param", "expand_param", "emit_constraint")
"""Fields of `transform_param` for pictures with objects in them."""
OF_PICTURES = ("resize_param", "noise_param", "crop_h", "crop_w", *OF_OBJECTS)
"""All that SSD adds to it."""


def refuse(param: TransformationParameter, names: tuple[str, ...], kind: str) -> None:
    """Raises ConfigError for a field that a layer of this type does not read."""
    for name in names:
        if param.HasField(name):
            raise ConfigError(f"{kind} has no transform_param.{name}", hint="AnnotatedData has it.")


class Shaping:
    """Scales a picture and spoils it, as `transform_param` says."""

    def __init__(self, param: TransformationParameter):
        self.param = param
        self.resizes, self.spoils = param.HasField("resize_param"), param.HasField("noise_param")
        if self.resizes:
            resizing.check(param.resize_param)
        if self.spoils:
            noise.check(param.noise_param)

    @property
    def active(self) -> bool:
        return self.resizes or self.spoils

    def __call__(self, picture: Array, random: np.random.Generator, where: str) -> Array:
        """The picture (C, H, W), bytes, in its new shape."""
        if self.active:
            check_bytes(picture, where)
        if self.resizes:
            picture = resizing.resized(picture, self.param.resize_param, random)
        return noise.spoilt(picture, self.param.noise_param, random) if self.spoils else picture


def check_bytes(picture: Array, where: str) -> None:
    """Raises DataError for a picture of other values."""
    if picture.dtype != np.uint8:
        raise DataError("only pictures of bytes can be changed so, this record has float_data", where=where)
