"""LMDB databases as Caffe's tools write them: records in key order, opened without leaving a trace."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import lmdb

from caffepy.errors import DataError
from caffepy.files import near_names

# Address space reserved for writing, not disk: the file grows as it is filled.
MAP_SIZE = 1 << 40


class LmdbReader:
    """Record i of a database, in key order.

    Going forward is one cursor step; a jump looks up the i-th key, for which the keys are listed once. Opened
    read-only and without a lock file. Raises DataError if the database is missing, foreign or empty.
    """

    def __init__(self, path: str | PathLike[str]):
        self.path = str(path)
        if not Path(path).exists():
            raise DataError("there is no such LMDB", where=self.path, hint=near_names(path) or _MAKE)
        try:
            self._env = lmdb.open(self.path, subdir=Path(path).is_dir(), readonly=True, lock=False, readahead=True)
        except lmdb.Error as error:
            raise DataError(f"this is no LMDB ({error})", where=self.path, hint=_MAKE) from None
        self._length = self._env.stat()["entries"]
        if not self._length:
            raise DataError("the LMDB is empty", where=self.path, hint=_MAKE)
        self._cursor = self._env.begin(buffers=False).cursor()
        self._at = -1
        self._keys: list[bytes] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        """Key and value of record `i`."""
        with self._lock:
            self._seek(i)
            return self._cursor.item()

    def _seek(self, i: int) -> None:
        if i == self._at + 1 and self._at >= 0:
            self._cursor.next()
        elif i == 0:
            self._cursor.first()
        elif i != self._at:
            if self._keys is None:
                with self._env.begin() as transaction:
                    self._keys = list(transaction.cursor().iternext(keys=True, values=False))
            self._cursor.set_key(self._keys[i])
        self._at = i

    def close(self) -> None:
        self._env.close()


_MAKE = "Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."


def write_lmdb(path: str | PathLike[str], records: Iterable[tuple[bytes, bytes]], batch: int = 1000) -> int:
    """Write a new database; the number of records. Refuses to touch one that exists."""
    if Path(path).exists():
        raise DataError("the database exists already", where=str(path), hint="Remove it or choose another name.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with lmdb.open(str(path), map_size=MAP_SIZE) as env:
        transaction = env.begin(write=True)
        for key, value in records:
            transaction.put(key, value)
            count += 1
            if count % batch == 0:
                transaction.commit()
                transaction = env.begin(write=True)
        transaction.commit()
    (Path(path) / "lock.mdb").unlink(missing_ok=True)
    return count
