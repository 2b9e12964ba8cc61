"""SSD's `expand_param`: a picture somewhere on a larger canvas, so that its objects are smaller."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures.boxes import UNIT, Array
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import TransformationParameter


def check(param: TransformationParameter) -> None:
    """Raises ConfigError for an `expand_param` that expands nothing, or whose canvas would have no colour."""
    if param.expand_param.max_expand_ratio <= 1:
        raise ConfigError(f"max_expand_ratio must exceed 1, got {param.expand_param.max_expand_ratio:g}")
    if param.HasField("mean_file"):
        raise ConfigError("expand_param cannot go with mean_file, whose pixels have a place", hint="Use mean_value.")


def expanded(picture: Array, param: TransformationParameter, random: np.random.Generator) -> tuple[Array, Array]:
    """The picture (C, H, W) on a canvas of the colour `mean_value`, or 0, and that canvas as a box in the picture."""
    p = param.expand_param
    if random.random() > p.prob:
        return picture, UNIT
    channels, height, width = picture.shape
    ratio = random.uniform(1, p.max_expand_ratio)
    rows, columns = int(height * ratio), int(width * ratio)
    top, left = (int(random.uniform(0, large - small)) for large, small in ((rows, height), (columns, width)))
    canvas = np.empty((rows, columns, channels), np.uint8)
    canvas[...] = np.rint(list(param.mean_value) or [0]).clip(0, 255)
    canvas[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    box = [-left / width, -top / height, (columns - left) / width, (rows - top) / height]
    return canvas.transpose(2, 0, 1), np.array(box, np.float32)
