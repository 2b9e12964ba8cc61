"""LMDB databases as Caffe's tools write them: records in key order, opened without leaving a trace."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


# The library opens a database once in a process; a train and a test net may read the same one. Weak, so that an
# environment is known exactly as long as it is open.
_open_environments: weakref.WeakValueDictionary[str, lmdb.Environment] = weakref.WeakValueDictionary()
_environments_lock = threading.Lock()


def _open(path: str) -> lmdb.Environment:
    real = os.path.realpath(path)
    with _environments_lock:
        env = _open_environments.get(real)
        if env is None:
            _check_files(path)
            env = _open_new(path)
            _check_size(path, env)
            _open_environments[real] = env
        return env


def _open_new(path: str) -> lmdb.Environment:
    for attempt in range(100):
        try:
            return lmdb.open(path, subdir=os.path.isdir(path), readonly=True, lock=False)
        except lmdb.Error as error:
            if "already open" in str(error) and attempt < 99:
                time.sleep(0.01)  # the library is just closing it, on another thread
                continue
            reason = str(error).removeprefix(f"{path}: ")
            raise DataError(f"this is no LMDB ({reason})", where=path, hint=_MAKE) from None
    raise AssertionError("the last attempt returns or raises")


def _check_files(path: str) -> None:
    """Tell a LevelDB and an empty folder from an LMDB: the library's own words for them would mislead."""
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, "data.mdb")):
        if os.path.exists(os.path.join(path, "CURRENT")):
            raise DataError("this is a LevelDB, not an LMDB", where=path, hint="Set data_param { backend: LEVELDB }.")
        raise DataError("this is no LMDB: the folder has no file data.mdb", where=path, hint=_MAKE)


def _check_size(path: str, env: lmdb.Environment) -> None:
    """Refuse a file that was cut off: reading beyond its end would kill the process (SIGBUS)."""
    file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    found, needed = os.path.getsize(file), (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if found + _UNWRITTEN * env.stat()["psize"] < needed:
        env.close()
        raise DataError(
            f"the LMDB is truncated: it needs {needed} bytes and has {found}",
            where=path,
            hint="Copy or make the database again.",
        )


# Pages that a database may count and, unused, never have written at its end.
_UNWRITTEN = 16


_MAKE = "Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."


def write_lmdb(path: str | PathLike[str], records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a new database; the number of records. Refuses to touch one that exists."""
    from caffepy.data.databases import create_database

    count = 0
    with create_database(path, "lmdb") as put:
        for key, value in records:
            put(key, value)
            count += 1
    return count


@contextmanager
def filling(path: str, batch: int = 1000) -> Iterator[Callable[[bytes, bytes], object]]:
    """Make a database and yield the function that puts a record; `batch` of them make a transaction."""
    with lmdb.open(path, map_size=MAP_SIZE) as env:
        transaction, pending = env.begin(write=True), 0

        def put(key: bytes, value: bytes) -> None:
            nonlocal transaction, pending
            transaction.put(key, value)
            pending += 1
            if pending == batch:
                transaction.commit()
                transaction, pending = env.begin(write=True), 0

        try:
            yield put
        except BaseException:
            transaction.abort()
            raise
        transaction.commit()
    (Path(path) / "lock.mdb").unlink(missing_ok=True)
