"""Which pages of an LMDB are free: its file may end before them, and they are read by nobody.

Layout: LMDB's mdb.c, of 64 bits. Pages have a header of 16 bytes; the first two pages hold what the last two
transactions left, in turn; free pages are the values of a tree of its own.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_HEADER = 16
_FREE_ROOT, _TRANSACTION = 80, 144  # where the first two pages have them
_BRANCH, _LEAF, _BIG = 1, 2, 1


def free_pages(path: str, size: int) -> set[int]:
    """The free pages of the database in the file `path`, of pages of `size` bytes; those that can be found out."""
    found: set[int] = set()
    with open(path, "rb") as file:
        try:
            metas = [_read(file, at, _TRANSACTION + 8) for at in (0, size)]
            newest = max(metas, key=lambda meta: struct.unpack_from("=Q", meta, _TRANSACTION))
            waiting, seen = [struct.unpack_from("=Q", newest, _FREE_ROOT)[0]], {2**64 - 1}  # that is no page
            while waiting:
                number = waiting.pop()
                if number not in seen:
                    seen.add(number)
                    waiting += _visit(file, size, number, found)
        except (EOFError, struct.error):
            pass
    return found


def _visit(file: BinaryIO, size: int, number: int, found: set[int]) -> list[int]:
    """Add the free pages that page `number` of the tree lists; the pages below it."""
    page = _read(file, number * size, size)
    flags, lower = struct.unpack_from("=HH", page, 10)
    below = []
    for start in struct.unpack_from(f"={(lower - _HEADER) // 2}H", page, _HEADER):
        low, high, node, key = struct.unpack_from("=4H", page, start)
        if flags & _BRANCH:
            below.append(low | high << 16 | node << 32)
        elif flags & _LEAF:
            value, length = page[start + 8 + key :], low | high << 16
            if node & _BIG:
                value = _read(file, struct.unpack_from("=Q", value)[0] * size + _HEADER, length)
            count, *numbers = struct.unpack_from(f"={length // 8}Q", value)
            found.update(numbers[:count])
    return below


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data
