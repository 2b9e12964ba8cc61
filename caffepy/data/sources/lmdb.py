"""LMDB databases as Caffe's tools write them: records in key order, opened without leaving a trace."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

import lmdb

from caffepy.data.sources.lmdb_free import free_pages
from caffepy.errors import DataError
from caffepy.files import near_names

# Address space reserved for writing, not disk: the file grows as it is filled.
MAP_SIZE = 1 << 40


NEAR = 64
"""How many records are stepped over rather than looked up: a step does not touch the values in between."""


class LmdbReader:
    """Record i of a database, in key order.

    Going forward is a few cursor steps; a jump looks up the i-th key, for which the keys are listed once (and kept:
    shuffling takes the memory of all keys). Opened read-only and without a lock file, so that read-only media do;
    nobody may write to the database meanwhile. Raises DataError if it is missing, foreign, damaged or empty.
    """

    def __init__(self, path: str | PathLike[str]):
        self.path = str(path)
        if not Path(path).exists():
            raise DataError("there is no such LMDB", where=self.path, hint=near_names(path) or _MAKE)
        self._env = _open(self.path)
        self._length = self._env.stat()["entries"]
        if not self._length:
            raise DataError("the LMDB is empty", where=self.path, hint=_MAKE)
        self._keys: list[bytes] | None = None
        self._start()

    def _start(self) -> None:
        """A lock and a cursor of this process's own: a fork may have copied them in the middle of something."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._rewind()

    def _rewind(self) -> None:
        """An error spoils a transaction, so that it takes a new one to go on."""
        self._cursor = self._env.begin(buffers=False).cursor()
        self._at = -1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        """Key and value of record `i`; as a list's, -1 is the last, and beyond either end is an IndexError."""
        i = range(self._length)[i]
        if self._owner != os.getpid():
            self._start()
        with self._lock:
            try:
                found = self._seek(i) and self._cursor.item()
            except lmdb.Error as error:
                self._rewind()
                raise DataError(f"the LMDB is damaged at record {i}: {error}", where=self.path, hint=_COPY) from None
            if not found:
                self._rewind()
                raise DataError(
                    f"the LMDB has no record {i}, it had {self._length} when it was opened",
                    where=self.path,
                    hint="Write to no database that is being read.",
                )
            return found

    def _seek(self, i: int) -> bool:
        if 0 <= self._at == i - 1:
            self._at = i
            return self._cursor.next()
        if self._at < 0 or not self._at <= i <= self._at + NEAR:
            if i <= NEAR:
                found, self._at = self._cursor.first(), 0
            else:
                found, self._at = self._cursor.set_key(self._key(i)), i
            if not found:
                return False
        steps, self._at = i - self._at, i
        return all(self._cursor.next() for _ in range(steps))

    def _key(self, i: int) -> bytes:
        if self._keys is None:
            keys: list[bytes] = []
            # Up to a damaged page; listed once, also where most records are behind it.
            with suppress(lmdb.Error), self._env.begin() as transaction:
                keys.extend(transaction.cursor().iternext(keys=True, values=False))
            self._keys = keys
        if i >= len(self._keys):
            raise lmdb.CorruptedError(f"only the first {len(self._keys)} keys can be listed")
        return self._keys[i]


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
            if "already open" in str(error):
                if attempt < 99:
                    time.sleep(0.01)  # the library is just closing it, on another thread
                    continue
                raise DataError(
                    "this program has the LMDB open already, and the library opens it once",
                    where=path,
                    hint="Close it first: env.close().",
                ) from None
            reason = str(error).removeprefix(f"{path}: ")
            raise DataError(f"this is no LMDB ({reason})", where=path, hint=_MAKE) from None
    raise AssertionError("the last attempt returns or raises")


def _check_files(path: str) -> None:
    """Tell a LevelDB and an empty folder from an LMDB: the library's own words for them would mislead."""
    file = os.path.join(path, "data.mdb")
    if not os.access(path, os.R_OK) or (os.path.exists(file) and not os.access(file, os.R_OK)):
        raise DataError("cannot read the LMDB: Permission denied", where=path)
    if os.path.isdir(path) and not os.path.exists(file):
        if os.path.exists(os.path.join(path, "CURRENT")):
            raise DataError("this is a LevelDB, not an LMDB", where=path, hint="Set data_param { backend: LEVELDB }.")
        raise DataError("this is no LMDB: the folder has no file data.mdb", where=path, hint=_MAKE)


def _check_size(path: str, env: lmdb.Environment) -> None:
    """Refuse a file that was cut off: reading beyond its end would kill the process (SIGBUS)."""
    file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    size, count = env.stat()["psize"], env.info()["last_pgno"] + 1
    found, needed = os.path.getsize(file), count * size
    # Free pages at the end need never have been written.
    if found < needed and not free_pages(file, size).issuperset(range(found // size, count)):
        env.close()
        raise DataError(
            f"the LMDB is truncated: it needs {needed} bytes and has {found}",
            where=path,
            hint=_COPY,
        )


_COPY = "Copy or make the database again."
_MAKE = "Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."


def write_lmdb(path: str | PathLike[str], records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a new database; the number of records. Refuses to touch one that exists."""
    from caffepy.data.sources.databases import create_database

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
