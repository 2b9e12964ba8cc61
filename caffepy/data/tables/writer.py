"""Writing tables, and making the ids and vocabularies in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from caffepy.data.tables.table import FEATURES, PAD, VOCABULARIES, Column, Table, check_name
from caffepy.files import atomic_write, new_hdf5

MARK = "caffepy_table"
"""An attribute of files that a conversion has written."""


def write_table(
    path: str | PathLike[str],
    columns: Mapping[str, Column],
    vocabularies: Mapping[str, Sequence[str]] | None = None,
    features: Mapping[str, Mapping[str, Column]] | None = None,
) -> None:
    """Write a table, whole or not at all. `features` are columns of a vocabulary's words, by its name.

    Raises ConfigError for a name that no column may have.
    """
    for names in (columns, vocabularies or {}, *(features or {}).values()):
        for name in names:
            check_name(name)
    Table(str(path), columns, {})  # which checks the lengths
    with atomic_write(path) as temporary, new_hdf5(temporary) as file:
        file.attrs[MARK] = 1
        for name, column in columns.items():
            _put(file, name, column)
        for name, words in (vocabularies or {}).items():
            _put(file, f"{VOCABULARIES}/{name}", Column(np.array(words, object)))
        for kind, named in (features or {}).items():
            for name, column in named.items():
                _put(file, f"{FEATURES}/{kind}/{name}", column)


def _put(file: Any, name: str, column: Column) -> None:
    import h5py

    kind = h5py.string_dtype() if column.is_text else None
    data = file.create_dataset(name, data=column.values, dtype=kind)
    if column.size:
        data.attrs["size"] = column.size
    if column.vocabulary:
        data.attrs["vocabulary"] = column.vocabulary


def encode(values: np.ndarray, vocabulary: str, *more: np.ndarray) -> tuple[list[str], list[Column]]:
    """The words of several arrays, in the order of numbers or of letters, and each array as a column of their ids."""
    words, ids = np.unique(_as_numbers(np.concatenate([values, *more])), return_inverse=True)
    cuts = np.cumsum([len(values), *map(len, more)])[:-1]
    parts = np.split(ids.astype(np.int32), cuts)
    return [str(word) for word in words.tolist()], [Column(part, len(words), vocabulary) for part in parts]


def encode_lists(lists: Sequence[Sequence[str]], vocabulary: str) -> tuple[list[str], Column]:
    """Lists of words as a column of ids (N, L), padded."""
    words = sorted({word for words in lists for word in words})
    number = {word: i for i, word in enumerate(words)}
    out = np.full((len(lists), max(map(len, lists), default=0)), PAD, np.int32)
    for row, listed in zip(out, lists):
        row[: len(listed)] = [number[word] for word in listed]
    return words, Column(out, len(words), vocabulary)


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """Integers where all words are written as such, so that 9 comes before 10 and 007 stays as it is."""
    try:
        numbers = values.astype(np.int64)
    except (ValueError, OverflowError):
        return values
    return numbers if np.array_equal(numbers.astype(values.dtype), values) else values
