"""Rows of several HDF5 files as one source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from math import prod
from pathlib import Path

import numpy as np

from caffepy import limits
from caffepy.errors import DataError
from caffepy.files import near_names, read_text
from caffepy.hdf5 import H5Group, open_hdf5

_WHOLE = "Copy or make the file again; do not write to it during training."

_DIVIDE = "Write several smaller files: one at a time is in memory. Or allow more with --max-memory."


class Hdf5Rows:
    """Rows of the datasets `names` of the files that a list names, in file order; all become float32.

    Opens files as they are needed and keeps the rows of one in memory. Raises DataError naming the file for
    missing files and datasets and for datasets of different length.
    """

    def __init__(self, list_file: str, names: list[str]):
        self.list_file, self.names = list_file, names
        try:
            self.files = read_text(list_file).split()
        except OSError as error:
            raise DataError(
                f"cannot read the list of HDF5 files: {error.strerror}", where=list_file, hint=near_names(list_file)
            ) from None
        if self.files and self.files[0].startswith("\udc89HDF"):
            raise DataError(
                "this is an HDF5 file, not a list of HDF5 files",
                where=list_file,
                hint="Write its path to a text file, and set source to that.",
            )
        if not self.files:
            raise DataError("the list names no HDF5 file", where=list_file, hint="It has the path of a file a line.")
        self.shapes: list[tuple[int, ...]] = []
        """Of a row of each dataset, in the first file."""
        lengths = [self._length(path) for path in self.files]
        self.starts = [0, *accumulate(lengths)]
        self._loaded: tuple[int, list[np.ndarray]] | None = None

    def __len__(self) -> int:
        return self.starts[-1]

    def load(self, file: int) -> list[np.ndarray]:
        """All datasets of a file."""
        if self._loaded is None or self._loaded[0] != file:
            self._loaded = None  # the last file's rows make room
            path = self.files[file]
            with self._open(path) as h5:
                try:
                    arrays = [np.asarray(h5.dataset(name).numbers(), np.float32) for name in self.names]
                except KeyError as error:
                    raise DataError(f"the file cannot be read: {error}", where=path, hint=_WHOLE) from None
            if any(len(array) != self.starts[file + 1] - self.starts[file] for array in arrays):
                raise DataError(
                    "the file has another number of rows than when it was opened first", where=path, hint=_WHOLE
                )
            self._loaded = file, arrays
        return self._loaded[1]

    @contextmanager
    def _open(self, path: str) -> Iterator[H5Group]:
        if not Path(path).is_file():
            raise DataError(f"the list names {path}, which does not exist", where=self.list_file, hint=near_names(path))
        try:
            with open_hdf5(path, DataError, _WHOLE) as file:
                yield file
        except PermissionError:
            raise DataError("cannot read the file: Permission denied", where=path) from None

    def _length(self, path: str) -> int:
        with self._open(path) as h5:
            shapes = {name: self._shape(h5, name, path) for name in self.names}
        lengths = {name: shape[0] for name, shape in shapes.items()}
        self.shapes = self.shapes or [shape[1:] for shape in shapes.values()]
        limits.check(4 * sum(map(prod, shapes.values())), "keeping the rows of the file", where=path, hint=_DIVIDE)
        if len(set(lengths.values())) > 1:
            found = ", ".join(f'"{name}" {n}' for name, n in lengths.items())
            raise DataError(
                f"the datasets differ in their number of rows: {found}", where=path, hint="Row i of each makes item i."
            )
        if not next(iter(lengths.values())):
            raise DataError(
                "the datasets have no rows", where=path, hint=f"Write some, or take the file off {self.list_file}."
            )
        return next(iter(lengths.values()))

    def _shape(self, h5: H5Group, name: str, path: str) -> tuple[int, ...]:
        if name not in h5:
            raise DataError(
                f'there is no dataset "{name}"',
                where=path,
                hint=f"Tops are named after datasets; the file has: {', '.join(h5)}.",
            )
        if h5.is_group(name) or not h5.dataset(name).is_numbers or not h5.dataset(name).shape:
            raise DataError(f'dataset "{name}" is no array of numbers', where=path)
        return h5.dataset(name).shape
