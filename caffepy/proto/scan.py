"""Binary messages looked through before they are parsed: what kind they are, and of how many parts.

Parsing makes an object of some 500 bytes of a layer that takes two in the file: ten megabytes become gigabytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from caffepy.files import open_file

MOST_PARTS = 1_000_000
"""Messages and texts inside one; GoogLeNet has 1,356."""
_HEAD = 1 << 16
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


class Field(NamedTuple):
    """A field of a message: its number, how it is written, and where it begins and ends."""

    number: int
    kind: int
    begin: int
    start: int
    """Of the value: behind number, kind and length."""
    end: int


def parse(raw: bytes, message: Message) -> None:
    """`message.ParseFromString`. Raises DecodeError for what is none, too, if it is of more than MOST_PARTS parts."""
    check_parts(raw, message.DESCRIPTOR)
    message.ParseFromString(raw)


def check_parts(raw: bytes, message: Descriptor) -> None:
    """Raises DecodeError for a message of more than MOST_PARTS parts."""
    try:
        parts = _count(raw, 0, len(raw), message, 0)
    except (ValueError, IndexError):
        parts = 0  # what is wrong with it, the parser says better
    if parts > MOST_PARTS:
        raise DecodeError("the message has too many parts")


def first_fields(path: str) -> set[tuple[int, int]]:
    """Number and kind of the fields in the beginning of a file; none if that is no message."""
    found = set()
    with open_file(path) as file:
        head, size = file.read(_HEAD), os.fstat(file.fileno()).st_size
    try:
        for field in fields(head, 0, size):
            found.add(field[:2])
            if field.end >= len(head):
                break
    except IndexError:
        pass
    except ValueError:
        return set()
    return found


def fields(raw: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of the message from `start` to `end`. ValueError if it is none, IndexError if `raw` is cut off."""
    begin = start
    while begin < end:
        tag, at = varint(raw, begin)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, behind = varint(raw, at)
        elif kind == _BYTES:
            length, at = varint(raw, at)
            behind = at + length
        elif kind in _FIXED:
            behind = at + _FIXED[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        if not number or behind > end:
            raise ValueError("a field that is longer than its message")
        yield Field(number, kind, begin, at, behind)
        begin = behind


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """A little-endian base-128 number at `at`, and the place behind it. ValueError if it does not end."""
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:  # a number of 64 bits has at most ten bytes: what goes on is none, however long
            raise ValueError("a number does not end")


def _count(raw: bytes, start: int, end: int, descriptor: Descriptor, before: int) -> int:
    """`before` and the parts of a message; more than MOST_PARTS are not counted on.

    What is inside a blob does not count: numbers, which take no more room than in the file.
    """
    if descriptor.name == "BlobProto":
        return before
    for field in fields(raw, start, end):
        if field.kind != _BYTES:
            continue
        before += 1
        known = descriptor.fields_by_number.get(field.number)
        if known is not None and known.message_type is not None:
            before = _count(raw, field.start, field.end, known.message_type, before)
        if before > MOST_PARTS:
            break
    return before
