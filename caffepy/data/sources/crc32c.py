"""CRC-32C (Castagnoli), the checksum of LevelDB's files, by table look-ups that numpy does for whole pieces at once."""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_PIECE = 1024
"""Bytes of a piece; the tables (4 bytes for each place and each of 256 values) fit the second-level cache."""
_AT_ONCE = 64
"""Pieces that are looked up together."""


def crc32c(data: bytes | memoryview) -> int:
    """The checksum is linear: that of a piece is the exclusive or of what each byte at its place contributes, and
    what came before adds to the piece's first four bytes."""
    tables, places, first, last = _tables()
    values = np.frombuffer(data, np.uint8)
    whole = len(values) // _PIECE * _PIECE
    pieces = values[:whole].reshape(-1, _PIECE)
    crc = 0xFFFFFFFF
    for start in range(0, len(pieces), _AT_ONCE):
        found = tables.take(places + pieces[start : start + _AT_ONCE], mode="clip")
        for piece in np.bitwise_xor.reduce(found, axis=1).tolist():
            crc = (
                first[0][crc & 255] ^ first[1][crc >> 8 & 255] ^ first[2][crc >> 16 & 255] ^ first[3][crc >> 24] ^ piece
            )
    rest = values[whole:].copy()
    if len(rest) < 4:
        for value in rest.tolist():
            crc = crc >> 8 ^ last[(crc ^ value) & 255]
    else:
        rest[:4] ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8)
        crc = int(np.bitwise_xor.reduce(tables.take(places[-len(rest) :] + rest, mode="clip")))
    return crc ^ 0xFFFFFFFF


def masked(data: bytes | memoryview) -> int:
    """As LevelDB stores it: rotated and shifted, since checksums of checksums are weak."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, list[list[int]], list[int]]:
    """What a byte contributes that 1023, 1022, .. 0 others follow, one after the other; where each place's 256 values
    begin; those of the first four places, and of the last."""
    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = np.where(byte & 1, byte >> 1 ^ np.uint32(_POLYNOMIAL), byte >> 1)
    tables = np.empty((_PIECE, 256), np.uint32)
    tables[-1] = byte
    for place in range(_PIECE - 2, -1, -1):
        following = tables[place + 1]
        tables[place] = byte[following & 255] ^ following >> 8
    return tables.ravel(), np.arange(_PIECE) * 256, tables[:4].tolist(), tables[-1].tolist()
