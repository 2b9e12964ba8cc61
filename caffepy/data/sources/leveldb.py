"""LevelDB databases, read without LevelDB: its library rewrites a database that it opens, this never does.

A database is a log of recent writes and sorted tables; a manifest says which files count. The newest entry of a key
wins. Formats: LevelDB's doc/log_format.md and doc/table_format.md. Checksums are verified when a database is opened.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from caffepy.data.sources.crc32c import masked
from caffepy.data.sources.datum import where
from caffepy.data.sources.opened import OpenFile
from caffepy.data.sources.snappy import decompress
from caffepy.errors import DataError
from caffepy.files import near_names, read_file
from caffepy.proto.scan import varint

_LOG_BLOCK = 32768
_MAGIC = 0xDB4775248B80FB57
_COMPARATOR = b"leveldb.BytewiseComparator"
_MANIFEST = re.compile(r"MANIFEST-\d+")
_COPY = "Copy or make the database again."
_MAKE = "Make one with `caffepy convert-imageset --backend leveldb` and its like."


class ValuePlace(NamedTuple):
    """Where a value lies: in a block of a file, from `start` on."""

    file: int
    offset: int
    size: int
    start: int
    length: int


class LevelDbReader:
    """Record i of a database, in key order. Raises DataError if it is missing, foreign, damaged or empty.

    Opening reads the whole database once (3 s a GB) and keeps every key, with where its value lies; values stay on disk
    but for those in the log, which holds what was written last.
    """

    def __init__(self, path: str | PathLike[str]):
        self.path = str(path)
        try:
            if not (Path(path) / "CURRENT").is_file():
                raise DataError("there is no such LevelDB", where=self.path, hint=_why_missing(Path(path)))
            found = self._scan()
        except OSError as error:
            raise DataError(f"cannot read the LevelDB: {error.strerror}", where=self.path) from None
        except (IndexError, struct.error, ValueError, EOFError) as error:
            raise DataError(f"the LevelDB is damaged: {error}", where=self.path, hint=_COPY) from None
        kept = {key: value for key, (_, value) in found.items() if value is not None}
        self._keys = sorted(kept)
        self._values = [kept[key] for key in self._keys]
        if not self._keys:
            raise DataError("the LevelDB is empty", where=self.path, hint=_MAKE)
        self._block = lru_cache(2)(self._read_block)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        """Key and value of record `i`."""
        value = self._values[i]
        if isinstance(value, ValuePlace):
            try:
                block = self._block(*value[:3])
            except (ValueError, EOFError) as error:
                raise DataError(
                    f"the record is damaged: {error}", where=where(self.path, self._keys[i]), hint=_COPY
                ) from None
            value = bytes(block[value.start : value.start + value.length])
        return self._keys[i], value

    def _scan(self) -> dict[bytes, tuple[int, bytes | ValuePlace | None]]:
        """Sequence number and value (None: deleted) of every key."""
        tables, logs = self._live_files()
        self._files, self._names = [OpenFile(path) for path in tables], [path.name for path in tables]
        found: dict[bytes, tuple[int, bytes | ValuePlace | None]] = {}

        def add(key: bytes, sequence: int, value: bytes | ValuePlace | None) -> None:
            known = found.get(key)
            if known is None or known[0] <= sequence:
                found[key] = sequence, value

        for number, path in enumerate(tables):
            for key, value in self._table(number, path):
                trailer = int.from_bytes(key[-8:], "little")
                add(key[:-8], trailer >> 8, value if trailer & 255 else None)
        for path in logs:
            for batch in _log_records(path):
                for entry in _batch(batch):
                    add(*entry)
        return found

    def _live_files(self) -> tuple[list[Path], list[Path]]:
        """The tables and logs that the manifest counts, oldest first."""
        folder = Path(self.path)
        current = read_file(folder / "CURRENT").decode("latin-1").strip()
        if not _MANIFEST.fullmatch(current):  # nor one of another folder
            raise ValueError("CURRENT names no manifest")
        manifest = folder / current
        if not manifest.is_file():
            raise DataError(f"the file {manifest.name} is missing", where=self.path, hint="Copy the folder as a whole.")
        tables: set[int] = set()
        oldest_log = previous_log = 0
        for record in _log_records(manifest):
            at = 0
            while at < len(record):
                tag, at = varint(record, at)
                if tag == 1:
                    name, at = _string(record, at)
                    if name != _COMPARATOR:
                        raise DataError(
                            f"the LevelDB is sorted by {name.decode(errors='replace')}, which Caffe does not use",
                            where=self.path,
                        )
                elif tag in (2, 3, 4, 9):
                    value, at = varint(record, at)
                    oldest_log = value if tag == 2 else oldest_log
                    previous_log = value if tag == 9 else previous_log
                elif tag == 5:
                    _, at = varint(record, at)
                    _, at = _string(record, at)
                elif tag == 6:
                    _, at = varint(record, at)
                    number, at = varint(record, at)
                    tables.discard(number)
                elif tag == 7:
                    _, at = varint(record, at)
                    number, at = varint(record, at)
                    _, at = varint(record, at)
                    _, at = _string(record, at)
                    _, at = _string(record, at)
                    tables.add(number)
                else:
                    raise ValueError(f"{manifest.name} has an entry of unknown kind {tag}")
        logs = sorted(
            path
            for path in folder.glob("*.log")
            if path.stem.isdigit() and (int(path.stem) >= oldest_log or int(path.stem) == previous_log != 0)
        )
        return [self._table_path(number) for number in sorted(tables)], logs

    def _table_path(self, number: int) -> Path:
        for suffix in ("ldb", "sst"):
            path = Path(self.path) / f"{number:06d}.{suffix}"
            if path.is_file():
                return path
        raise DataError(
            f"the table {number:06d}.ldb is missing", where=self.path, hint="Copy the folder as a whole."
        ) from None

    def _table(self, number: int, path: Path) -> Iterator[tuple[bytes, ValuePlace]]:
        """Internal keys of a table, and where their values lie."""
        file = self._files[number]
        footer = file.read(max(file.size - 48, 0), min(file.size, 48))
        if len(footer) < 48 or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
            raise ValueError(f"{path.name} is truncated or no table")
        _, at = varint(footer, 0)
        _, at = varint(footer, at)
        offset, at = varint(footer, at)
        size, at = varint(footer, at)
        index = self._read_block(number, offset, size, check=True)
        for _, start, _ in _entries(index):
            offset, at = varint(index, start)
            size, at = varint(index, at)
            for key, value_start, value_length in _entries(self._read_block(number, offset, size, check=True)):
                yield key, ValuePlace(number, offset, size, value_start, value_length)

    def _read_block(self, file: int, offset: int, size: int, check: bool = False) -> bytes:
        name = self._names[file]
        try:
            data = self._files[file].read(offset, size + 5)
        except EOFError:
            raise ValueError(f"{name} is truncated") from None
        block, kind = data[:size], data[size]
        if check and masked(data[: size + 1]) != struct.unpack_from("<I", data, size + 1)[0]:
            raise ValueError(f"the checksum of a block of {name} is wrong")
        if kind > 1:
            raise ValueError(f"a block is compressed by an unknown method ({kind})")
        return decompress(block) if kind else block


def _why_missing(path: Path) -> str:
    if (path / "data.mdb").is_file():
        return "The folder holds an LMDB: set data_param { backend: LMDB }."
    return (not path.exists() and near_names(path)) or _MAKE


def _log_records(path: Path) -> Iterator[bytes]:
    """The records of a log, put together from their fragments; an unfinished one at the end does not count."""
    file = OpenFile(path)
    data, at = file.read(0, file.size), 0
    parts: list[bytes] = []
    while at + 7 <= len(data):
        room = _LOG_BLOCK - at % _LOG_BLOCK
        if room < 7:  # the rest of a block that no header fits into
            at += room
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        fragment = data[at + 7 : at + 7 + length]
        typed = data[at + 6 : at + 7 + length]
        at += 7 + length
        if len(fragment) < length:
            return
        if kind == 0 and length == 0:  # space that was reserved and never written
            continue
        if kind not in (1, 2, 3, 4):
            raise ValueError(f"{path.name} has a fragment of unknown kind {kind}")
        if masked(typed) != checksum:
            raise ValueError(f"the checksum of a fragment of {path.name} is wrong")
        if kind in (1, 2):
            parts = []
        parts.append(fragment)
        if kind in (1, 4):
            yield b"".join(parts)


def _batch(record: bytes) -> Iterator[tuple[bytes, int, bytes | None]]:
    """Key, sequence number and value (None: deleted) of the writes that one log record holds."""
    first, count = struct.unpack_from("<QI", record)
    at = 12
    for sequence in range(first, first + count):
        kind = record[at]
        key, at = _string(record, at + 1)
        value = None
        if kind:
            value, at = _string(record, at)
        yield key, sequence, value


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = varint(data, at)
    if at + length > len(data):
        raise ValueError("a record is truncated")
    return data[at : at + length], at + length


def _entries(block: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Key, start and length of the value of every entry of a table block; keys share prefixes with the one before."""
    end = len(block) - 4 * (struct.unpack("<I", block[-4:])[0] + 1)
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, at, length
        at += length
