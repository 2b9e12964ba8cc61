"""A file that is read piece by piece while others may damage it."""

from __future__ import annotations

import os
import weakref

from caffepy.errors import DataError

AHEAD = 1 << 18
"""Bytes that are read at once of a file that is read from front to back."""

_SURE = 8
"""How many pieces in a row tell that it is: those of one record, which lie together, are fewer."""


class ChangedError(ValueError):
    """The file is not what it was when it was opened."""


class OpenFile:
    """Bytes of a file at any place, as long as it stays the file that was opened.

    Not mapped into memory: a mapped file that is cut while it is read ends the process without a word (SIGBUS).
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):  # a pipe would be waited for, a device be read without end
            raise DataError("this is no file: a database is made of files", where=self.path)
        self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._stamp = self._look()
        self.size = self._stamp[0]
        self._held = 0, b""  # where the piece that is held begins, and its bytes
        self._last = self._forward = 0  # where the last piece ended, and how many in a row began behind one

    def read(self, at: int, length: int) -> bytes:
        """`length` bytes from `at` on.

        Raises EOFError, before anything is allocated, if the file has fewer, and ChangedError.
        """
        start, held = self._held
        if start <= at and at + length <= start + len(held):
            return held[at - start : at - start + length]
        if not 0 <= at <= at + length <= self.size:
            raise EOFError(f"{length} bytes at {at} lie beyond the end of a file of {self.size}")
        self._forward = self._forward + 1 if 0 <= at - self._last < AHEAD else 0
        if self._forward < _SURE or length > AHEAD // 4:
            return self._fresh(at, length)
        piece = self._fresh(at, min(AHEAD, self.size - at))
        self._held = at, piece
        return piece[:length]

    def _fresh(self, at: int, length: int) -> bytes:
        data = _pread(self._descriptor, length, at)
        while len(data) < length and (more := _pread(self._descriptor, length - len(data), at + len(data))):
            data += more  # the system reads at most 2 GB at once
        if len(data) < length or self._look() != self._stamp:
            raise ChangedError("the file has changed since it was opened")
        self._last = at + length
        return data

    def _look(self) -> tuple[int, int]:
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns


def _seek_and_read(descriptor: int, length: int, at: int) -> bytes:
    """For systems without pread, where nobody forks."""
    os.lseek(descriptor, at, os.SEEK_SET)
    return os.read(descriptor, length)


_pread = getattr(os, "pread", _seek_and_read)
