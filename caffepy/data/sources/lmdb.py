"""LMDB databases as Caffe's tools write them: records in key order, opened without leaving a trace."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import lmdb

from caffepy.data.sources.lmdb_pages import SEVERAL_VALUES, SMALLEST_RECORD, Meta, Pages, TreeRecords, read_meta
from caffepy.data.sources.opened import ChangedError, OpenFile
from caffepy.errors import DataError
from caffepy.files import near_names

_COPY = "Copy or make the database again."
_MAKE = "Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."


class LmdbReader:
    """Record i of a database, in key order.

    Opened read-only and without a lock file, so that read-only media do; nobody may write to the database meanwhile.
    Raises DataError if it is missing, foreign, damaged, empty, or another than it was when it was opened.
    """

    def __init__(self, path: str | PathLike[str]):
        self.path = str(path)
        if not Path(path).exists():
            raise DataError("there is no such LMDB", where=self.path, hint=near_names(path) or _MAKE)
        self._file = OpenFile(_file_of(self.path))
        try:
            self._meta = read_meta(self._file)
        except ValueError as error:
            raise DataError(f"this is no LMDB ({error})", where=self.path, hint=_MAKE) from None
        self._pages = Pages(self._file, self._meta.page_size)
        self._check(self._meta)
        self._length = self._meta.main.entries
        self._start()

    def _start(self) -> None:
        """A lock and a walk of this process's own: a fork may have copied them in the middle of something."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._records = TreeRecords(self._pages, self._meta.main)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        """Key and value of record `i`; as a list's, -1 is the last, and beyond either end is an IndexError."""
        i = range(self._length)[i]
        if self._owner != os.getpid():
            self._start()
        with self._lock:
            try:
                return self._records[i]
            except ChangedError:
                raise DataError(
                    "the LMDB has changed since it was opened",
                    where=self.path,
                    hint="Write to no database that is being read.",
                ) from None
            except (ValueError, EOFError) as error:
                raise DataError(f"the LMDB is damaged at record {i}: {error}", where=self.path, hint=_COPY) from None

    def _check(self, meta: Meta) -> None:
        """Refuse at once what would be missed only after hours: a file that was cut off, an empty database."""
        found, needed = self._file.size, (meta.last_page + 1) * meta.page_size
        # Free pages at the end need never have been written.
        if found < needed and not self._pages.free(meta.free).issuperset(
            range(found // meta.page_size, meta.last_page + 1)
        ):
            raise DataError(
                f"the LMDB is truncated: it needs {needed} bytes and has {found}", where=self.path, hint=_COPY
            )
        if meta.main.flags & SEVERAL_VALUES:
            problem = "this LMDB has several values of a key, a Caffe database has one"
            raise DataError(problem, where=self.path, hint=_MAKE)
        if meta.main.entries > found // SMALLEST_RECORD:
            problem = f"the LMDB is damaged: {meta.main.entries} records do not fit into {found} bytes"
            raise DataError(problem, where=self.path, hint=_COPY)
        if not meta.main.entries:
            raise DataError("the LMDB is empty", where=self.path, hint=_MAKE)


def _file_of(path: str) -> str:
    """The file of the database `path`, a folder or that file. Tells a LevelDB and an empty folder from an LMDB."""
    file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    if not os.access(path, os.R_OK) or (os.path.exists(file) and not os.access(file, os.R_OK)):
        raise DataError("cannot read the LMDB: Permission denied", where=path)
    if not os.path.exists(file):
        if os.path.exists(os.path.join(path, "CURRENT")):
            raise DataError("this is a LevelDB, not an LMDB", where=path, hint="Set data_param { backend: LEVELDB }.")
        raise DataError("this is no LMDB: the folder has no file data.mdb", where=path, hint=_MAKE)
    return file


@contextmanager
def filling(path: str, batch: int = 1000) -> Iterator[Callable[[bytes, bytes], object]]:
    """Make a database and yield the function that puts a record; `batch` of them make a transaction."""
    with _new(path) as env:
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


_LARGEST, _SMALLEST = 1 << 40, 1 << 24


def _new(path: str) -> lmdb.Environment:
    """An empty database with room for the largest that can be: address space, not disk, the file grows as it is filled.

    Where less can be had (ulimit -v), half as much, and so on.
    """
    size = _LARGEST
    while True:
        try:
            return lmdb.open(path, map_size=size)
        except lmdb.Error:
            size //= 2
            if size < _SMALLEST:
                raise
