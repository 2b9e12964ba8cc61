"""HDF5 files from anywhere, read without following what leads out of them.

Their format can say that a dataset's bytes lie in any other file (external storage, external links, virtual datasets),
and that a few bytes are gigabytes (chunks that were never written, or that unpack to them). Both are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from caffepy import limits
from caffepy.errors import CaffeError, DataError

if TYPE_CHECKING:
    import h5py

_HOPS = 16
"""Soft links that may lead to one another."""
_OUTSIDE = "A file from elsewhere could read any file of yours so. Store the numbers in the file itself."


@contextmanager
def open_hdf5(path: str, error: type[CaffeError] = DataError, hint: str = "") -> Iterator[H5Group]:
    """The root group of the file `path`, to be read in the block.

    Whatever is wrong with the file is raised as `error`, the system's own errors (no permission) as they are.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield H5Group(file, path, error)
    except (CaffeError, MemoryError):
        raise
    except Exception as caught:  # h5py raises nearly anything where a damaged file leads it astray
        if isinstance(caught, PermissionError):
            raise
        message = "this is no complete HDF5 file: truncated, or another kind of file"
        raise error(message, where=path, hint=hint) from caught


class H5Group:
    """A group: its names, and what each, or a path of them, leads to inside the file.

    A name that leads nowhere is a KeyError, one that leads out of the file, or to the wrong kind, the file's error.
    """

    def __init__(self, group: h5py.Group, path: str, error: type[CaffeError]):
        self._group, self._path, self._error = group, path, error

    def __contains__(self, name: str) -> bool:
        try:
            self._find(self._group, name, _HOPS)
            return True
        except KeyError:
            return False

    def is_group(self, name: str) -> bool:
        import h5py

        return name in self and isinstance(self._find(self._group, name, _HOPS), h5py.Group)

    def group(self, name: str) -> H5Group:
        import h5py

        found = self._find(self._group, name, _HOPS)
        if not isinstance(found, h5py.Group):
            raise self._error(f'"{name}" is no group', where=self._path)
        return H5Group(found, self._path, self._error)

    def dataset(self, name: str) -> H5Dataset:
        import h5py

        found = self._find(self._group, name, _HOPS)
        if not isinstance(found, h5py.Dataset):
            raise self._error(f'"{name}" is no dataset', where=self._path)
        return H5Dataset(found, name, self._path, self._error)

    def has_attribute(self, name: str) -> bool:
        return name in self._group.attrs

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)

    def _find(self, group: Any, name: str, hops: int) -> Any:
        """What the path `name` leads to, link by link: the library would follow external ones by itself."""
        import h5py

        if name.startswith("/"):
            group = group.file
        for part in filter(lambda part: part not in ("", "."), name.split("/")):
            key = part.encode(errors="surrogateescape")
            if not isinstance(group, h5py.Group) or b"\0" in key or not group.id.links.exists(key):
                raise KeyError(name)
            kind = group.id.links.get_info(key).type
            if kind == h5py.h5l.TYPE_HARD:
                group = group[key]
            elif kind == h5py.h5l.TYPE_SOFT and hops:
                group = self._find(group, os.fsdecode(group.id.links.get_val(key)), hops - 1)
            else:
                reason = "an endless row of links" if kind == h5py.h5l.TYPE_SOFT else "a link to another file"
                raise self._error(f'"{name}" is {reason}, which is not followed', where=self._path, hint=_OUTSIDE)
        return group


class H5Dataset:
    """An array of the file; nothing is read before `numbers` or `text`."""

    def __init__(self, dataset: h5py.Dataset, name: str, path: str, error: type[CaffeError]):
        self._dataset, self._name, self._path, self._error = dataset, name, path, error

    @property
    def shape(self) -> tuple[int, ...]:
        if self._dataset.shape is None:
            raise self._error(f'dataset "{self._name}" is no array', where=self._path)
        return self._dataset.shape

    @property
    def dtype(self) -> np.dtype:
        return self._dataset.dtype

    @property
    def is_numbers(self) -> bool:
        return self._dataset.shape is not None and self.dtype.kind in "fiu"

    def numbers(self) -> np.ndarray:
        """All of it, in its own type."""
        if not self.is_numbers:
            raise self._error(f'dataset "{self._name}" is no array of numbers', where=self._path)
        self._check_place()
        return self._dataset[()]

    def rows(self, which: slice) -> np.ndarray:
        """Some of its rows."""
        if not self.is_numbers or not self.shape:
            raise self._error(f'dataset "{self._name}" is no array of rows of numbers', where=self._path)
        self._check_place()
        return self._dataset[which]

    def number(self) -> int:
        """The first as an integer."""
        values = self.numbers()
        if not values.size:
            raise self._error(f'dataset "{self._name}" is empty', where=self._path)
        return int(values.flat[0])

    def text(self) -> str:
        """A single string."""
        self._check_place()
        value = self._dataset[()] if self._dataset.shape == () else None
        if not isinstance(value, bytes):
            raise self._error(f'dataset "{self._name}" is no text', where=self._path)
        return os.fsdecode(value)

    def texts(self) -> list[str]:
        """A list of strings."""
        import h5py

        self._check_place()
        if h5py.check_string_dtype(self.dtype) is None or len(self.shape) != 1:
            raise self._error(f'dataset "{self._name}" is no list of texts', where=self._path)
        return [os.fsdecode(value) for value in self._dataset[()].tolist()]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What the file says of it in numbers and words."""
        return self._dataset.attrs

    def _check_place(self) -> None:
        """Raises the file's error if the numbers lie elsewhere, or are more than the file can hold."""
        if self._dataset.external or self._dataset.is_virtual:
            raise self._error(
                f'dataset "{self._name}" lies in another file, which is not read', where=self._path, hint=_OUTSIDE
            )
        size = self._dataset.size or 0
        limits.check_unpacked(
            size * max(self.dtype.itemsize, 4),
            os.path.getsize(self._path),
            f'dataset "{self._name}" of shape {self.shape}',
            self._error,
            self._path,
        )
