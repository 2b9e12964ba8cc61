"""Readers as datasets: databases, pictures in folders and lists, arrays; and datasets as readers of Data layers."""

from __future__ import annotations

import os
from os import PathLike
from typing import Any

import numpy as np

from caffepy.data.composition import Dataset, Record, dataset
from caffepy.data.order import Cursor, Order
from caffepy.data.pictures import folders, image
from caffepy.data.sources import datum as datums
from caffepy.data.sources.databases import guess_backend, open_database, register_reader
from caffepy.data.sources.lists import read_list
from caffepy.errors import DataError, ShapeError, did_you_mean
from caffepy.proto.caffe_pb2 import Datum


class Database(Dataset):
    """(picture (C, H, W), label) of the records of an LMDB or LevelDB, in the order of their keys."""

    def __init__(self, path: str | PathLike[str]):
        self.reader = open_database(path, guess_backend(path))

    def __len__(self) -> int:
        return len(self.reader)

    def at(self, epoch: int, i: int) -> Record:
        key, value = self.reader[i]
        datum, path = datums.parse(value, key, self.reader.path), self.reader.path
        return datums.picture(datum, key, path) if datum.encoded else datums.image(datum, key, path), datum.label


def database(path: str | PathLike[str]) -> Dataset:
    """The pictures and labels of a database."""
    return Database(path)


class Pictures(Dataset):
    """(picture (C, H, W) in blue, green, red, label) of files."""

    def __init__(self, source: str | PathLike[str], root: str | PathLike[str], size: tuple[int, int] | None):
        self.root, self.size = os.fspath(root), size
        self.names: list[str] = []
        """Of the classes of a folder."""
        if os.path.isdir(source):
            self.root = os.path.join(os.fspath(source), "")
            self.names, self.entries = folders.classes_in(source)
        else:
            self.entries = read_list(source)

    def __len__(self) -> int:
        return len(self.entries)

    def at(self, epoch: int, i: int) -> Record:
        entry = self.entries[i]
        picture = image.read(self.root + entry.name)
        return image.resize(picture, *self.size) if self.size else picture, entry.label


def pictures(
    source: str | PathLike[str], root: str | PathLike[str] = "", size: tuple[int, int] | None = None
) -> Dataset:
    """Pictures of a folder with a folder for each class, or of a list, resized to `size` (height, width)."""
    return Pictures(source, root, size)


class Arrays(Dataset):
    """Tuples of the entries of arrays of one length."""

    def __init__(self, columns: tuple[np.ndarray, ...]):
        if len({len(column) for column in columns}) != 1:
            raise ShapeError(f"arrays of one length are needed, got {[len(column) for column in columns]}")
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def at(self, epoch: int, i: int) -> Record:
        return tuple(column[i] for column in self.columns)


def arrays(*columns: Any) -> Dataset:
    """Records (x[i], y[i], ...) of arrays."""
    return Arrays(tuple(np.asarray(column) for column in columns))


_offered: dict[str, Dataset] = {}


def offer(name: str, records: Any) -> None:
    """Let `data_param { reader: "dataset" source: "NAME" }` read this dataset of (picture (C, H, W), label)."""
    _offered[name] = dataset(records)


class EpochOrder(Order):
    """Numbers that go on from epoch to epoch, so that a record may be another in each."""

    def permuted(self, epoch: int, i: int) -> int:
        return epoch * self.length + i

    def check(self, cursor: Cursor) -> None:
        """Any epoch may be reached."""


@register_reader("dataset")
class Offered:
    """A dataset as a reader of Data layers."""

    def __init__(self, name: str | PathLike[str]):
        self.path = os.fspath(name)
        if self.path not in _offered:
            hint = (
                did_you_mean(self.path, _offered) or "Offer it before the net is built: caffepy.data.offer(name, data)."
            )
            raise DataError(f'no dataset is called "{self.path}"', hint=hint)
        self.dataset = _offered[self.path]
        self.order = EpochOrder(len(self.dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        picture, label = self.dataset.at(*divmod(i, len(self.dataset)))
        values = np.asarray(picture)
        if values.dtype == np.uint8:
            datum = datums.from_image(values, int(label))
        else:
            channels, height, width = values.shape
            datum = Datum(channels=channels, height=height, width=width, label=int(label))
            datum.float_data.extend(values.astype(np.float32).ravel())
        return b"%08d" % i, datum.SerializeToString()
