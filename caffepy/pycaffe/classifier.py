"""Classifier: a trained net that says what pictures show, as pycaffe's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from caffepy.engine import Engine
from caffepy.errors import ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from caffepy.pycaffe import io
from caffepy.pycaffe.net import Net


class Classifier(Net):
    """A net in the TEST phase with the `caffepy.io.Transformer` of its first input.

    `image_dims` (H, W) is the size that pictures are brought to before they are cropped to the net's input, by default
    that of the input; `mean`, `input_scale`, `raw_scale` and `channel_swap` are the transformer's, `engine` the net's.
    """

    def __init__(
        self,
        model_file: str | PathLike[str],
        pretrained_file: str | PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: Any = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        *,
        engine: Engine | str | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file, engine=engine)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        dims = self.crop_dims if image_dims is None else image_dims
        self.image_dims = tuple(int(n) for n in dims)
        crop = tuple(self.crop_dims.tolist())
        if len(self.image_dims) != 2 or self.image_dims[0] < crop[0] or self.image_dims[1] < crop[1]:
            raise ShapeError(f"image_dims {self.image_dims} do not hold the net's input, (height, width) {crop}")

    def predict(self, inputs: Sequence[Any], oversample: bool = True) -> np.ndarray:  # type: ignore[override]
        """The net's first output for each picture (H, W, K) of `inputs`: (N, classes).

        `oversample` averages over ten crops (`caffepy.io.oversample`), which makes one axis of the classes' axes;
        otherwise the centre alone is taken, and the output keeps its shape.
        """
        if not len(inputs) or any(np.ndim(picture) != 3 for picture in inputs):
            shapes = [np.shape(picture) for picture in inputs[:3]]
            raise ShapeError(f"predict takes a list of pictures (H, W, K), at least one; got shapes {shapes}")
        pictures = np.stack([io.resize_image(picture, self.image_dims) for picture in inputs])
        if oversample:
            pictures = io.oversample(pictures, self.crop_dims)
        else:
            top, left = ((np.array(self.image_dims) - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            pictures = pictures[:, top : top + height, left : left + width]
        predictions = forward_pictures(self, self.transformer, pictures)
        return predictions.reshape(len(inputs), 10, -1).mean(axis=1) if oversample else predictions


def transformer_of(
    net: Net, mean: Any, input_scale: float | None, raw_scale: float | None, channel_swap: Sequence[int] | None
) -> io.Transformer:
    """The transformer of the net's first input, for pictures (H, W, K)."""
    if not net.inputs or len(net.blobs[net.inputs[0]].shape) != 4:
        raise ConfigError(
            "a Classifier or Detector needs a net whose first input is of shape (N, K, H, W)",
            hint="Give the definition for use, which begins with an Input layer (deploy.prototxt).",
        )
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


def forward_pictures(net: Net, transformer: io.Transformer, pictures: Iterable[Any]) -> np.ndarray:
    """The net's first output for pictures (H, W, K) that the transformer makes its first input of."""
    name = net.inputs[0]
    given = {name: np.stack([transformer.preprocess(name, picture) for picture in pictures])}
    return net.forward_all(None, **given)[net.outputs[0]]
