"""IDX files, the format MNIST is published in: big-endian header, then unsigned bytes; gzipped or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from os import PathLike
from pathlib import Path

import numpy as np

from caffepy.errors import DataError
from caffepy.files import near_names


def read_idx(path: str | PathLike[str], ndim: int) -> np.ndarray:
    """The uint8 array of an IDX file with `ndim` axes. Raises DataError for foreign and truncated files."""
    try:
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the gzipped file is damaged: {error}", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=str(path), hint=near_names(path)) from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise DataError(
            "this is no IDX file of bytes",
            where=str(path),
            hint="MNIST's files are called train-images-idx3-ubyte ...",
        )
    if raw[3] != ndim:
        raise DataError(
            f"the IDX file has {raw[3]} axes, {ndim} are expected",
            where=str(path),
            hint="The images come first, the labels second.",
        )
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise DataError(f"the file is truncated: its header has {start} bytes, the file {len(raw)}", where=str(path))
    shape = struct.unpack(f">{ndim}I", raw[4:start])
    count = prod(shape)
    if len(raw) - start < count:
        raise DataError(
            f"the file is truncated: its header announces {count} bytes, {len(raw) - start} follow",
            where=str(path),
        )
    return np.frombuffer(raw, np.uint8, count, start).reshape(shape)
