"""Snappy decompression, for the blocks of LevelDB tables."""

from __future__ import annotations

from caffepy.proto.scan import varint


def decompress(data: bytes) -> bytes:
    """The raw bytes of one Snappy block. Raises ValueError if it is damaged."""
    try:
        return _decompress(data)
    except IndexError:
        raise ValueError("the compressed block is truncated") from None


def _decompress(data: bytes) -> bytes:
    size, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:  # a literal
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(data[at : at + extra], "little") + 1
                at += extra
            out += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if kind == 2 else 4
            length, offset = (tag >> 2) + 1, int.from_bytes(data[at : at + width], "little")
            at += width
        if not 0 < offset <= len(out):
            raise ValueError("the compressed block refers to bytes before its start")
        start = len(out) - offset
        if offset >= length:
            out += out[start : start + length]
        else:  # the copy overlaps what it writes: a repeated pattern
            out += (bytes(out[start:]) * (length // offset + 1))[:length]
    if len(out) != size:
        raise ValueError(f"the compressed block holds {len(out)} bytes instead of {size}")
    return bytes(out)
