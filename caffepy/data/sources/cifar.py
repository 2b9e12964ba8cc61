"""CIFAR-10's binary batches, gzipped or not: a byte of label, then 3 x 32 x 32 of red, green and blue, and again."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from os import PathLike

import numpy as np

from caffepy.data.sources.datum import from_image
from caffepy.errors import DataError
from caffepy.files import near_names, read_file, unzipped
from caffepy.proto.caffe_pb2 import Datum

SHAPE = 3, 32, 32
SIZE = 1 + 3 * 32 * 32
RECORDS = 10000
"""Records of a whole file; keys count on from file to file by it."""


def read_batch(path: str | PathLike[str]) -> Iterator[Datum]:
    """The records of a file, channels in its own order (R, G, B) as Caffe leaves them."""
    try:
        raw = unzipped(read_file(path), str(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the gzipped file is damaged: {error}", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot read the batch: {error.strerror}", where=str(path), hint=near_names(path)) from None
    if not raw or len(raw) % SIZE:
        raise DataError(
            f"the file has {len(raw)} bytes, no multiple of {SIZE}",
            where=str(path),
            hint="It is truncated, or not of CIFAR-10's binary version.",
        )
    for record in np.frombuffer(raw, np.uint8).reshape(-1, SIZE):
        yield from_image(record[1:].reshape(SHAPE), int(record[0].astype(np.int8)))
