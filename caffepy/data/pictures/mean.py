"""The mean picture of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from caffepy.data.sources import datum as datums
from caffepy.data.sources.databases import Reader
from caffepy.errors import DataError
from caffepy.files import atomic_write
from caffepy.proto.caffe_pb2 import BlobProto, Datum


def records(reader: Reader) -> Iterator[tuple[bytes, Datum]]:
    """Key and Datum of every record, in key order."""
    for i in range(len(reader)):
        key, value = reader[i]
        yield key, datums.parse(value, key, reader.path)


def pixels(datum: Datum, key: bytes, source: str) -> np.ndarray:
    """The picture (C, H, W) of a record; an encoded one in its own channels."""
    if datum.encoded:
        return datums.picture(datum, key, source)
    return datums.image(datum, key, source)


def mean_image(reader: Reader, advance: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """sum / count of all pictures (C, H, W), in single precision and record order as Caffe adds them.

    Raises DataError with the key of a picture of another shape.
    """
    total: np.ndarray | None = None
    for done, (key, datum) in enumerate(records(reader), 1):
        picture = pixels(datum, key, reader.path)
        if total is None:
            total = np.zeros(picture.shape, np.float32)
        if picture.shape != total.shape:
            raise DataError(
                f"the picture has shape {picture.shape}, the first one {total.shape}",
                where=datums.where(reader.path, key),
                hint="A mean needs pictures of one size, for example by convert-imageset --resize-height and -width.",
            )
        total += picture
        advance(done)
    if total is None:
        raise DataError("no pictures", where=str(reader.path))
    return total / np.float32(len(reader))


def write_mean(mean: np.ndarray, path: str | PathLike[str]) -> None:
    """Write (C, H, W) as a mean file, a BlobProto with num, channels, height and width."""
    channels, height, width = mean.shape
    proto = BlobProto(num=1, channels=channels, height=height, width=width)
    proto.data.extend(np.ascontiguousarray(mean).ravel())
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(proto.SerializeToString())
