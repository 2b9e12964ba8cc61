"""Classifier: a trained net that says what pictures show, as pycaffe's."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from caffepy import io
from caffepy.net import Net
from caffepy.proto.caffe_pb2 import TEST


class Classifier(Net):
    """A net in the TEST phase with the `caffepy.io.Transformer` of its first input.

    `image_dims` (H, W) is the size that pictures are brought to before they are cropped to the net's input, by default
    that of the input; `mean`, `input_scale`, `raw_scale` and `channel_swap` are the transformer's.
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
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = tuple(self.crop_dims if image_dims is None else image_dims)

    def predict(self, inputs: Sequence[Any], oversample: bool = True) -> np.ndarray:  # type: ignore[override]
        """The net's first output for each picture (H, W, K) of `inputs`: (N, classes).

        `oversample` averages over ten crops (`caffepy.io.oversample`), otherwise the centre alone is taken.
        """
        pictures = np.stack([io.resize_image(picture, self.image_dims) for picture in inputs])
        if oversample:
            pictures = io.oversample(pictures, self.crop_dims)
        else:
            top, left = ((np.array(self.image_dims) - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            pictures = pictures[:, top : top + height, left : left + width]
        name = self.inputs[0]
        given = np.stack([self.transformer.preprocess(name, picture) for picture in pictures])
        predictions = self.forward_all(**{name: given})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(inputs), -1, *predictions.shape[1:]).mean(axis=1)
        return predictions.reshape(len(inputs), -1)


def transformer_of(
    net: Net, mean: Any, input_scale: float | None, raw_scale: float | None, channel_swap: Sequence[int] | None
) -> io.Transformer:
    """The transformer of the net's first input, for pictures (H, W, K)."""
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
