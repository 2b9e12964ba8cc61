"""A table: an HDF5 file of columns of one length, with the vocabularies of its ids.

    user, item        (N,) integers, ids 0 .. size - 1; attribute `size`, and `vocabulary` where they stand for words
    rating            (N,) floats, or (N, K)
    genre             (N, L) integers with a `size`: lists of ids, padded with -1
    vocabularies/item (size,) words: what id i stands for
    features/item/x   (size, ...) a column for every item instead of every row: numbers, lists or words

`caffepy convert-ratings` writes such files; `caffepy.data.tables.writer` does it for others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from caffepy.errors import ConfigError, DataError, did_you_mean
from caffepy.files import near_names
from caffepy.hdf5 import H5Dataset, H5Group, open_hdf5

VOCABULARIES, FEATURES = "vocabularies", "features"
PAD = -1
"""Fills lists of ids."""


class Column:
    """Values of all rows (N, ...), and for ids how many there are and the name of their vocabulary."""

    def __init__(self, values: np.ndarray, size: int = 0, vocabulary: str = ""):
        self.values, self.size, self.vocabulary = values, size, vocabulary

    @property
    def is_list(self) -> bool:
        """Whether a row is a list of ids, padded."""
        return self.size > 0 and self.values.ndim == 2

    @property
    def is_text(self) -> bool:
        return self.values.dtype.kind == "O"


class Table:
    """The columns of a file, which are read whole. Raises DataError that names the file for what it lacks."""

    def __init__(self, path: str, columns: Mapping[str, Column], features: Mapping[str, Mapping[str, Column]]):
        self.path, self.columns, self.features = path, columns, features
        lengths = {name: len(column.values) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"its columns have different lengths: {lengths}", where=path)
        self._length = next(iter(lengths.values()), 0)
        self.vocabularies: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of a column."""
        return self.column(name).values

    def column(self, name: str) -> Column:
        if name not in self.columns:
            hint = did_you_mean(name, self.columns) or f"It has {', '.join(self.columns)}."
            raise DataError(f'the table has no column "{name}"', where=self.path, hint=hint)
        return self.columns[name]

    def size(self, name: str) -> int:
        """How many ids the column has: what an Embed needs rows for."""
        size = self.column(name).size
        if not size:
            raise ConfigError(f'the column "{name}" of {self.path} holds no ids of a vocabulary')
        return size

    def vocabulary(self, name: str) -> list[str]:
        """What the ids of a column stand for; their own numbers where the file does not say."""
        column = self.column(name)
        return self.vocabularies.get(column.vocabulary) or [str(i) for i in range(column.size)]

    def feature(self, name: str) -> tuple[str, Column] | None:
        """The column of ids that a feature belongs to, and the feature; None where there is none of this name."""
        for key, column in self.columns.items():
            found = self.features.get(column.vocabulary, {}).get(name)
            if found is not None and column.values.ndim == 1:
                return key, found
        return None


def check_name(name: str, hint: str = "") -> None:
    """Raises ConfigError for what no column may be called: parts of a path, and the file's own groups."""
    if not name or "/" in name or "\0" in name or name in (".", VOCABULARIES, FEATURES):
        raise ConfigError(f'a table has no column called "{name}"', hint=hint)


def held_out(user: np.ndarray, item: np.ndarray, share: float) -> np.ndarray:
    """Which pairs belong to a share that is kept apart: always the same ones, whoever asks."""
    mixed = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ item.astype(np.uint64) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(40)).astype(np.int64) < int(share * (1 << 24))


def pair_numbers(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    return a.astype(np.int64) * size + b


def open_table(path: str) -> Table:
    """The table in the file `path`; one that has been read and has not changed since is read once."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot read the table: {error.strerror}", where=path, hint=near_names(path)) from None
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(4)
def _read(path: str, changed: int, size: int) -> Table:
    hint = "caffepy convert-ratings writes such files."
    with open_hdf5(path, hint=hint) as file:
        columns = _columns(file)
        if not columns:
            raise DataError("this is no table: it holds no columns", where=path, hint=hint)
        inner = _group(file, FEATURES)
        table = Table(path, columns, {kind: _columns(_group(inner, kind)) for kind in inner or ()})
        for name, column in _columns(_group(file, VOCABULARIES)).items():
            table.vocabularies[name] = column.values.tolist()
    return table


def _group(file: H5Group | None, name: str) -> H5Group | None:
    return file.group(name) if file is not None and file.is_group(name) else None


def _columns(group: H5Group | None) -> dict[str, Column]:
    if group is None:
        return {}
    return {name: _column(group.dataset(name)) for name in group if not group.is_group(name)}


def _column(data: H5Dataset) -> Column:
    if not data.is_numbers:
        return Column(np.array(data.texts(), object))
    attributes = data.attributes
    return Column(data.numbers(), int(attributes.get("size", 0)), str(attributes.get("vocabulary", "")))
