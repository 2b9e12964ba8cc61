"""Pictures for a net without a data layer, prepared as the net's training prepared them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffepy.data.pictures import image
from caffepy.data.pictures.data_transformer import DataTransformer, read_mean
from caffepy.data.sources import datum as datums
from caffepy.data.sources.databases import backends_in, open_database
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, LayerParameter, TransformationParameter

_SOURCES = ("Data", "ImageData")


class Preparation(NamedTuple):
    """What is done to a picture: resized to `size` (height, width), None for that of the net's input, then `param`."""

    param: TransformationParameter
    size: tuple[int, int] | None = None


class Prepared:
    """(C, H, W), float32, of a picture's bytes, for a net's input of this shape. RGB where `rgb`, else BGR."""

    def __init__(self, preparation: Preparation, shape: tuple[int, ...], rgb: bool = False):
        self.channels, height, width = shape
        if self.channels not in (1, 3):
            raise ShapeError(f"the net's input has {self.channels} channels, pictures have 1 or 3")
        param = TransformationParameter()
        param.CopyFrom(preparation.param)
        param.mirror = False
        self.transformer = DataTransformer(param, TEST)
        self.size, self.rgb, self.shape = preparation.size or (height, width), rgb, shape
        made = self.transformer.shape((self.channels, *self.size))
        if made != shape:
            raise ShapeError(
                f"pictures of {self.size[0]}x{self.size[1]} become {made}, the net's input takes {shape}",
                hint="Say how large they are before they are cropped: --resize HEIGHTxWIDTH, and --crop-size.",
            )

    def __call__(self, data: bytes, where: str) -> np.ndarray:
        pixels = image.decode(data, where, self.channels)
        if pixels.shape[1:] != self.size:
            pixels = image.resize(pixels, *self.size)
        out = np.empty(self.shape, np.float32)
        self.transformer.apply(pixels[::-1] if self.rgb else pixels, self.transformer.draw(pixels.shape, None), out)
        return out


def as_in(net: str) -> Preparation:
    """What the data layer of a net's TEST phase does. Raises ConfigError where it has none."""
    layer = _source(text.read_net(net).param.layer)
    if layer is None:
        raise ConfigError("the net has no layer of pictures", where=net, hint=f"One of {', '.join(_SOURCES)} is meant.")
    return Preparation(layer.transform_param, _size(layer))


def beside(deploy: str, layers: Collection[str]) -> str:
    """The one net in the folder of a net for use that has all its `layers` and reads pictures; "" for none or more."""
    return next(iter(found), "") if len(found := list(_nets_beside(deploy, set(layers)))) == 1 else ""


def _nets_beside(deploy: str, layers: set[str]) -> Iterator[str]:
    for path in sorted(Path(deploy).parent.glob("*.prototxt")):
        if not os.path.samefile(path, deploy):
            try:
                net = text.read_net(path).param
            except CaffeError:  # a solver, or another net that is none of ours
                continue
            if layers <= {layer.name for layer in net.layer} and _source(net.layer) is not None:
                yield str(path)


def _source(layers: Collection[LayerParameter]) -> LayerParameter | None:
    """The layer of pictures in TEST, else in any phase."""
    sources = [layer for layer in layers if layer.type in _SOURCES]
    in_test = [layer for layer in sources if not layer.include or any(rule.phase == TEST for rule in layer.include)]
    return next(iter(in_test or sources), None)


def _size(layer: LayerParameter) -> tuple[int, int] | None:
    """Height and width of the pictures that a data layer crops, as far as they can be known."""
    t, p = layer.transform_param, layer.image_data_param
    if p.new_height:
        return p.new_height, p.new_width
    if t.mean_file and os.path.isfile(t.mean_file):
        return read_mean(t.mean_file).shape[1:]
    if layer.type == "Data" and (kinds := backends_in(layer.data_param.source)):
        reader = open_database(layer.data_param.source, kinds[0])
        key, value = reader[0]
        datum = datums.parse(value, key, reader.path)
        picture = datums.picture(datum, key, reader.path) if datum.encoded else datums.image(datum, key, reader.path)
        return picture.shape[1:]
    return None
