"""Databases of records, whichever library holds them: opened to be read, created to be written."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import accumulate
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import lmdb

from caffepy.data.sources.leveldb import LevelDbReader
from caffepy.data.sources.lmdb import LmdbReader, filling
from caffepy.errors import DataError, MissingExtraError
from caffepy.files import check_writable
from caffepy.plugins import Registry
from caffepy.temporary import temporary_folder

R = TypeVar("R", bound=Callable[..., Any])


class Reader(Protocol):
    """Key and value of record i, in key order; `path` is for messages."""

    path: str

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> tuple[bytes, bytes]: ...


class Joined:
    """Several readers as one, in their order."""

    def __init__(self, readers: Sequence[Reader]):
        self.readers = readers
        self.path = ", ".join(str(reader.path) for reader in readers)
        self._ends = list(accumulate(map(len, readers)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        which = bisect_right(self._ends, i)
        return self.readers[which][i - (self._ends[which - 1] if which else 0)]


_readers: Registry[Callable[..., Reader]] = Registry("reader", "readers", own=("caffepy.data.records",))
_readers.register("lmdb", LmdbReader)
_readers.register("leveldb", LevelDbReader)


def register_reader(name: str, replace: bool = False) -> Callable[[R], R]:
    """Class decorator: `data_param { reader: "name" source: "..." }` reads records with this class.

    It is called with `source` and is a `Reader`, whose values are Datum messages or what a layer of your own makes of
    them.
    """

    def decorate(cls: R) -> R:
        _readers.register(name, cls, replace=replace)
        return cls

    return decorate


def open_database(path: str | PathLike[str], backend: str) -> Reader:
    """Open a database read-only; `backend` is "lmdb", "leveldb" or a registered name. Its folder is not touched.

    Raises ConfigError for other names.
    """
    return _readers.find(backend)(path)


def backends_in(path: str | PathLike[str]) -> list[str]:
    """The kinds of database whose files lie in the folder: usually one."""
    files = {"lmdb": "data.mdb", "leveldb": "CURRENT"}
    return [kind for kind, file in files.items() if os.path.isfile(os.path.join(path, file))]


def guess_backend(path: str | PathLike[str]) -> str:
    """The kind that lies in the folder; "lmdb" where neither does, so that its reader says what is missing."""
    return next(iter(backends_in(path)), "lmdb")


def write_lmdb(path: str | PathLike[str], records: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a new database; the number of records. Refuses to touch one that exists."""
    count = 0
    with create_database(path, "lmdb") as put:
        for key, value in records:
            put(key, value)
            count += 1
    return count


@contextmanager
def create_database(path: str | PathLike[str], backend: str) -> Iterator[Callable[[bytes, bytes], object]]:
    """Create a database and yield the function that puts a record. Refuses to touch one that exists.

    It has another name until it is complete, so that an error or a kill leaves no half database behind.
    """
    path = Path(path)
    if path.exists():
        raise DataError("the database exists already", where=str(path), hint="Remove it or choose another name.")
    if backend.lower() == "leveldb":
        _leveldb()  # before anything is made
    path.parent.mkdir(parents=True, exist_ok=True)
    check_writable(path)
    fill = _filling_leveldb if backend.lower() == "leveldb" else _filling_lmdb
    with temporary_folder(path) as temporary:
        try:
            with fill(str(temporary)) as put:
                yield put
        except DataError as error:
            if error.where == str(temporary):
                error.where, error.message = str(path), error.message.replace(str(temporary), str(path))
            raise
        temporary.rename(path)


@contextmanager
def _filling_lmdb(path: str) -> Iterator[Callable[[bytes, bytes], object]]:
    try:
        with filling(path) as put:
            yield put
    except lmdb.MapFullError:
        problem = "the LMDB becomes larger than the address space that this process may use (ulimit -v)"
        raise DataError(problem, where=path) from None
    except lmdb.Error as error:  # a full disk, a key that is too long
        raise DataError(f"cannot write the LMDB: {_of_the_disk(path) or error}", where=path) from None


def _of_the_disk(folder: str) -> str:
    """Why nothing more can be written there, "" if it can: of a full disk LMDB says "Input/output error"."""
    try:
        with open(os.path.join(folder, "probe"), "wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        return ""
    except OSError as error:
        return error.strerror or ""


@contextmanager
def _filling_leveldb(path: str) -> Iterator[Callable[[bytes, bytes], object]]:
    library = _leveldb()
    # Caffe takes 256 MB, all of which may stay in the log, and a reader holds the log in memory.
    try:
        with closing(library.DB(path, error_if_exists=True, create_if_missing=True, write_buffer_size=1 << 24)) as db:
            yield db.put
    except library.Error as error:  # a full disk
        reason = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error
        raise DataError(f"cannot write the LevelDB: {reason}", where=path) from None


def _leveldb() -> ModuleType:
    """plyvel, or its fork that newer Pythons have."""
    for name in ("plyvel", "plyvel_next"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            raise DataError(f"the package {name} is installed but cannot be loaded: {error}") from None
    raise MissingExtraError("plyvel", "leveldb", "Writing a LevelDB")
