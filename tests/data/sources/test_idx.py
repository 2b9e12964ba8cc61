"""IDX files: read as they were written, and refused with what is wrong with them."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest

from caffepy.data.sources.idx import read_idx
from caffepy.errors import DataError

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("array", [IMAGES, np.arange(7, dtype=np.uint8), np.zeros((0, 2), np.uint8)])
def test_read_as_written(tmp_path, array, pack):
    path = tmp_path / "images"
    path.write_bytes(pack(idx(array)))
    found = read_idx(path, array.ndim)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


DAMAGED = {
    "absent": (None, "cannot read the file: No such file or directory\n  Did you mean \"images-idx3-ubyte\"?"),
    "empty": (b"", "this is no IDX file of bytes\n  MNIST's files are called train-images-idx3-ubyte ..."),
    "text": (b"hello", "this is no IDX file of bytes\n  MNIST's files are called train-images-idx3-ubyte ..."),
    "floats": (
        idx(IMAGES, kind=13),
        "this is no IDX file of bytes\n  MNIST's files are called train-images-idx3-ubyte ...",
    ),
    "labels": (
        idx(IMAGES.ravel()),
        "the IDX file has 1 axes, 3 are expected\n  The images come first, the labels second.",
    ),
    "cut": (idx(IMAGES)[:-5], "the file is truncated: its header announces 24 bytes, 19 follow"),
    "cut in the header": (idx(IMAGES)[:9], "the file is truncated: its header has 16 bytes, the file 9"),
    "cut while packed": (
        gzip.compress(idx(IMAGES))[:-12],
        "the gzipped file is damaged: Compressed file ended before the end-of-stream marker was reached",
    ),
    "packed with other bytes": (
        gzip.compress(idx(IMAGES))[:-8] + bytes(8),
        "the gzipped file is damaged: CRC check failed 0x0 != 0x"
        f"{zlib.crc32(idx(IMAGES)):x}",
    ),
    "packed badly": (b"\x1f\x8b" + b"x" * 30, "the gzipped file is damaged: Unknown compression method"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files(tmp_path, kind):
    content, problem = DAMAGED[kind]
    path = tmp_path / "image-idx3-ubyte"
    (tmp_path / "images-idx3-ubyte").touch()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_file_that_would_fill_the_memory(tmp_path):
    """Before it is unpacked: four megabytes of zeros in a row are four gigabytes."""
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(struct.pack(">4BIII", 0, 0, 8, 3, 1 << 10, 1 << 11, 1 << 11) + bytes(1 << 20)))
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert str(caught.value) == (
        f"{path}: the array of shape (1024, 2048, 2048) that its header announces would unpack to 4 GB, the file has "
        f"{path.stat().st_size / 1024:.3g} KB\n"
        "  No data are packed so densely: the file is damaged, or made to fill the memory."
    )


def test_an_array_above_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(idx(np.zeros((100, 100, 100), np.uint8))))
    monkeypatch.setenv("CAFFEPY_MAX_MEMORY", "900K")
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert str(caught.value) == (
        f"{path}: the array of shape (100, 100, 100) that its header announces needs 977 KB; the limit is 900 KB\n"
        "  Allow more with --max-memory, or CAFFEPY_MAX_MEMORY, if the machine has it."
    )
    monkeypatch.setenv("CAFFEPY_MAX_MEMORY", "1M")
    assert read_idx(path, 3).shape == (100, 100, 100)
