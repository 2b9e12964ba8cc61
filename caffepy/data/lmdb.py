"""LMDB databases as Caffe's tools write them: records in key order, opened without leaving a trace."""

from __future__ import annotations

import os
import threading
import weakref
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
        self._env = _open(self.path)
        weakref.finalize(self, _release, os.path.realpath(self.path))
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


# The library opens a database once in a process; a train and a test net may read the same one.
_open_environments: dict[str, list] = {}
_environments_lock = threading.Lock()


def _open(path: str) -> lmdb.Environment:
    with _environments_lock:
        entry = _open_environments.get(os.path.realpath(path))
        if entry is None:
            try:
                env = lmdb.open(path, subdir=os.path.isdir(path), readonly=True, lock=False)
            except lmdb.Error as error:
                raise DataError(f"this is no LMDB ({error})", where=path, hint=_MAKE) from None
            entry = _open_environments[os.path.realpath(path)] = [env, 0]
        entry[1] += 1
        return entry[0]


def _release(real_path: str) -> None:
    with _environments_lock:
        entry = _open_environments[real_path]
        entry[1] -= 1
        if not entry[1]:
            del _open_environments[real_path]  # closed when the last transaction is gone, too


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
