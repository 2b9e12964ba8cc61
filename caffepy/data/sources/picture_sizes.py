"""SSD's `name_size_file`: names and sizes of the pictures of a database, in its order."""

from __future__ import annotations

from typing import NamedTuple

from caffepy.errors import DataError
from caffepy.proto.text import read_text


class PictureSize(NamedTuple):
    """A picture's name and its size in pixels."""

    name: str
    height: int
    width: int


def read_sizes(path: str) -> list[PictureSize]:
    """The lines `name height width` of a file. Raises DataError for another one, and for a file without any."""
    sizes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or not all(word.isdecimal() and int(word) for word in words[1:]):
            raise DataError(f'"{line}" is no line "name height width"', where=f"{path}:{number}")
        sizes.append(PictureSize(words[0], int(words[1]), int(words[2])))
    if not sizes:
        raise DataError("the file names no picture", where=path, hint='Each line is "name height width".')
    return sizes
