"""Datum, the record of Caffe's databases: a picture or a vector, and a label."""

from __future__ import annotations

from math import prod

import numpy as np
from google.protobuf.message import DecodeError

from caffepy.data.pictures.image import decode
from caffepy.errors import DataError
from caffepy.proto.caffe_pb2 import Datum

_FOREIGN = "The database is damaged, or was not written by a Caffe tool."
_AGAIN = "Convert the data again. `caffepy data inspect` counts such records: if all are, no Caffe tool wrote them."


def parse(value: bytes, key: bytes, source: str) -> Datum:
    """Raises DataError naming the database and the key of what is no Datum."""
    datum = Datum()
    try:
        datum.ParseFromString(value)
    except DecodeError:
        raise DataError("the record is damaged, or no Caffe Datum", where=where(source, key), hint=_AGAIN) from None
    if not (datum.data or datum.float_data):
        problem = "is an empty Datum" if datum.ListFields() else "is damaged, or no Caffe Datum"
        raise DataError(f"the record {problem}", where=where(source, key), hint=_AGAIN)
    return datum


def image(datum: Datum, key: bytes, source: str) -> np.ndarray:
    """The values of a raw Datum as (C, H, W): uint8, or float32 for `float_data`."""
    shape = datum.channels, datum.height, datum.width
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    if min(shape) < 0:
        raise DataError(f"the record has the shape {shape}", where=where(source, key), hint=_FOREIGN)
    if values.size != prod(shape):
        raise DataError(
            f"the record has {values.size} values, its shape {shape} needs {prod(shape)}",
            where=where(source, key),
            hint=_FOREIGN,
        )
    return values.reshape(shape)


def picture(datum: Datum, key: bytes, source: str, channels: int = 0) -> np.ndarray:
    """The decoded picture (C, H, W) of an encoded Datum."""
    hint = f"Replace the picture that was stored under {_quoted(key)}, and convert the data again."
    return decode(datum.data, where(source, key), channels, hint)


def where(source: str, key: bytes) -> str:
    return f"{source}, key {_quoted(key)}"


def _quoted(key: bytes) -> str:
    return f'"{key.decode(errors="replace")}"'


def from_image(pixels: np.ndarray, label: int) -> Datum:
    """A raw Datum of uint8 pixels (C, H, W)."""
    channels, height, width = pixels.shape
    return Datum(channels=channels, height=height, width=width, data=pixels.tobytes(), label=label)
