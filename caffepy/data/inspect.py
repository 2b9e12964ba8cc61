"""What is in a database: counts, shapes, labels, a sheet of small pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np

from caffepy.data.pictures.image import encode
from caffepy.data.pictures.mean import pixels
from caffepy.data.sources import cifar
from caffepy.data.sources import datum as datums
from caffepy.data.sources.databases import Reader
from caffepy.errors import DataError
from caffepy.proto.caffe_pb2 import Datum


@dataclass
class Contents:
    """How many records of which shape, kind and label; the first pictures; errors of what cannot be read."""

    count: int = 0
    shapes: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    labels: Counter = field(default_factory=Counter)
    pictures: list[np.ndarray] = field(default_factory=list)
    damaged: list[DataError] = field(default_factory=list)


def look(
    reader: Reader,
    keep: int = 0,
    advance: Callable[[int], None] = lambda done: None,
    rgb: bool | None = None,
) -> Contents:
    """Read and decode every record, keeping the first `keep` pictures, as BGR.

    `rgb` says whether they are stored as RGB; None: as convert-cifar leaves them, else as Caffe's tools do, BGR.
    """
    found = Contents(len(reader))
    for i in range(len(reader)):
        try:
            key, value = reader[i]
            datum = datums.parse(value, key, reader.path)
            picture = pixels(datum, key, reader.path)
        except DataError as error:
            found.damaged.append(error)
        else:
            found.shapes[picture.shape] += 1
            found.kinds["encoded" if datum.encoded else "raw" if datum.data else "float_data"] += 1
            found.labels[datum.label if datum.HasField("label") else None] += 1
            if len(found.pictures) < keep:
                turned = is_cifar(key, datum) if rgb is None else rgb
                found.pictures.append(picture[::-1] if turned and len(picture) == 3 else picture)
        advance(i + 1)
    return found


def is_cifar(key: bytes, datum: Datum) -> bool:
    """Whether convert-cifar has made the record: its keys are five digits, its channels red, green and blue."""
    return (datum.channels, datum.height, datum.width) == cifar.SHAPE and len(key) == 5 and key.isdigit()


def sheet(pictures: list[np.ndarray], kind: str = "png", gap: int = 2) -> bytes:
    """A file of type `kind` with the pictures (C, H, W) in rows, as near to a square as can be.

    float_data is scaled to 0..255.
    """
    tiles = [_tile(p) for p in pictures]
    height, width = (max(t.shape[axis] for t in tiles) for axis in (1, 2))
    columns = ceil(sqrt(len(tiles) * height / width))
    rows = ceil(len(tiles) / columns)
    out = np.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        out[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    return encode(out, kind)


def _tile(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8:
        low, high = picture.min(), picture.max()
        picture = ((picture - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return picture[:3] if picture.shape[0] >= 3 else np.repeat(picture[:1], 3, axis=0)
