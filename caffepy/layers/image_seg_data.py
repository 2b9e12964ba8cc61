"""ImageSegData and DenseImageData: pictures and the labels of their pixels, for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from caffepy.data.pictures.data_transformer import Choice
from caffepy.data.pictures.image import resize
from caffepy.data.pictures.labels import read_labels, resize_labels
from caffepy.data.pictures.shaping import OF_PICTURES
from caffepy.data.sources.pairs import Pair, read_pairs
from caffepy.errors import ConfigError, DataError
from caffepy.layers.batches import Batch, Picture, new_array
from caffepy.layers.image_data import ImageData
from caffepy.net.blob import Blob
from caffepy.net.layer import Count, register
from caffepy.proto.caffe_pb2 import TRAIN, ImageDataParameter


class Labels(NamedTuple):
    """The labels of a picture's pixels (H, W), and its size before it was scaled."""

    pixels: np.ndarray
    size: tuple[int, int]


@register("ImageSegData")
class ImageSegData(ImageData):
    """Pictures and labels of the files in `image_data_param.source`: data (N, C, H, W), labels (N, 1, H, W), sizes.

    DeepLab's. By `label_type` a line is a path and that of a gray picture of labels (PIXEL), a path and a number for
    all its pixels (IMAGE), or a path (NONE: `ignore_label`). In TRAIN both are scaled by one of
    `transform_param.scale_factors` (PSPNet); what is smaller than `crop_size` is filled up with the mean and
    `ignore_label`, below and on the right. A third top (N, 1, 1, 2) has height and width of each picture before it
    is scaled, at most those of the batch. The rest is as in ImageData; labels are cropped and mirrored with their
    picture.
    """

    num_top: ClassVar[Count] = (2, 3)
    refused_fields = OF_PICTURES

    @classmethod
    def expected_label(cls, size: int, picture: Picture | None) -> tuple[int, ...] | None:
        return (size, 1, *picture[1:]) if picture else None

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        transform = self.param.transform_param
        if transform.HasField("mean_file"):
            raise ConfigError(f"{self.type} takes no mean_file", hint="Give mean_value, a mean a channel.")
        if transform.min_crop_area < 1:
            raise ConfigError(f"{self.type} cannot use min_crop_area, which would part pictures from their labels")
        if any(factor <= 0 for factor in transform.scale_factors):
            raise ConfigError("scale_factors must be positive")
        self.num_tops = len(top)
        super().setup(bottom, top)

    def label_type(self) -> int:
        return self.settings.label_type

    def read_entries(self) -> Sequence[Pair]:
        return read_pairs(self.settings.source, both=self.label_type() != ImageDataParameter.NONE)

    @property
    def draws(self) -> bool:
        return self.augmenter.active or self._scaled

    @property
    def _scaled(self) -> bool:
        return self.phase == TRAIN and bool(self.param.transform_param.scale_factors)

    def decode(self, record: Pair) -> tuple[np.ndarray, Labels]:
        picture, _ = super().decode(record)
        size = picture.shape[1:]
        if self.label_type() == ImageDataParameter.PIXEL:
            pixels = self.read_file(record.label, record, read_labels)
            if self.settings.new_height:
                pixels = resize_labels(pixels, *size)
            if pixels.shape != size:
                raise DataError(
                    f"the labels are {pixels.shape[0]}x{pixels.shape[1]}, the picture {size[0]}x{size[1]}",
                    where=self.place(record),
                )
        else:
            pixels = np.full(size, self._number(record), np.uint8)
        return picture, Labels(pixels, size)

    def _number(self, record: Pair) -> int:
        """The label of all pixels."""
        if self.label_type() == ImageDataParameter.NONE:
            return self.settings.ignore_label
        if not record.label.isdigit() or int(record.label) > 255:
            raise DataError(
                f'"{record.label}" is no label in 0 .. 255',
                where=self.place(record),
                hint="Set label_type: PIXEL if it names a picture of labels.",
            )
        return int(record.label)

    def prepare(self, record: Pair, random: np.random.Generator | None) -> tuple[np.ndarray, Labels]:
        picture, labels = super().prepare(record, random)
        pixels = labels.pixels
        if self._scaled and random is not None:
            factor = random.choice(self.param.transform_param.scale_factors)
            height, width = (max(1, round(n * factor)) for n in pixels.shape)
            picture = resize(np.clip(np.rint(picture), 0, 255).astype(np.uint8), height, width)
            pixels = resize_labels(pixels, height, width)
        return self._filled_up(picture), labels._replace(pixels=self._filled_up(pixels[None], True)[0])

    def _filled_up(self, values: np.ndarray, labels: bool = False) -> np.ndarray:
        """(C, H, W) with at least `crop_size` rows and columns."""
        crop = self.param.transform_param.crop_size
        channels, *size = values.shape
        if min(size) >= crop:
            return values
        mean = np.array(list(self.param.transform_param.mean_value) or [0], np.float32).reshape(-1, 1, 1)
        outside = self.settings.ignore_label if labels else mean
        out = np.empty((channels, *(max(n, crop) for n in size)), values.dtype if labels else np.float32)
        out[...] = outside
        out[:, : size[0], : size[1]] = values
        return out

    def label_arrays(
        self, given: list[Labels], images: list[np.ndarray], choices: list[Choice], recycled: Batch | None
    ) -> list[np.ndarray]:
        crop = self.param.transform_param.crop_size
        height, width = (crop, crop) if crop else given[0].pixels.shape
        out = new_array(recycled, 1, (len(given), 1, height, width))
        for target, label, choice in zip(out[:, 0], given, choices):
            cut = label.pixels[choice.top : choice.top + height, choice.left : choice.left + width]
            target[...] = cut[:, ::-1] if choice.mirror else cut
        if self.num_tops < 3:
            return [out]
        sizes = new_array(recycled, 2, (len(given), 1, 1, 2))
        sizes[:, 0, 0] = [[min(height, label.size[0]), min(width, label.size[1])] for label in given]
        return [out, sizes]


@register("DenseImageData")
class DenseImageData(ImageSegData):
    """SegNet's: `dense_image_data_param`, whose source lists a picture and a picture of labels a line."""

    num_top = 2
    param_field = "dense_image_data_param"

    def label_type(self) -> int:
        return ImageDataParameter.PIXEL
