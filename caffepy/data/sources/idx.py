"""IDX files, the format MNIST is published in: big-endian header, then unsigned bytes; gzipped or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from io import BytesIO
from math import prod
from os import PathLike

import numpy as np

from caffepy import limits
from caffepy.errors import DataError
from caffepy.files import near_names, read_file


def read_idx(path: str | PathLike[str], ndim: int) -> np.ndarray:
    """The uint8 array of an IDX file with `ndim` axes. Raises DataError for foreign and truncated files."""
    where = str(path)
    try:
        raw = read_file(path)
        zipped = raw[:2] == b"\x1f\x8b"
        with gzip.open(BytesIO(raw)) if zipped else BytesIO(raw) as file:
            shape = _read_header(file, where, ndim)
            what = f"the array of shape {shape} that its header announces"
            if zipped:
                limits.check_unpacked(prod(shape), len(raw), what, where=where)
            values = file.read(prod(shape) if zipped else min(prod(shape), len(raw)))
            file.read(1)  # the checksum stands behind the last
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the gzipped file is damaged: {error}", where=where) from None
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=where, hint=near_names(path)) from None
    if len(values) < prod(shape):
        raise DataError(
            f"the file is truncated: its header announces {prod(shape)} bytes, {len(values)} follow",
            where=where,
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_header(file: BytesIO | gzip.GzipFile, where: str, ndim: int) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08":
        raise DataError(
            "this is no IDX file of bytes",
            where=where,
            hint="MNIST's files are called train-images-idx3-ubyte ...",
        )
    if magic[3] != ndim:
        raise DataError(
            f"the IDX file has {magic[3]} axes, {ndim} are expected",
            where=where,
            hint="The images come first, the labels second.",
        )
    dims = file.read(4 * ndim)
    if len(dims) < 4 * ndim:
        needed, found = 4 + 4 * ndim, 4 + len(dims)
        raise DataError(f"the file is truncated: its header has {needed} bytes, the file {found}", where=where)
    return struct.unpack(f">{ndim}I", dims)
