"""Lists of two files, or of a file and a number."""

from __future__ import annotations

from os import PathLike
from typing import NamedTuple

from caffepy.data.sources.lists import lines_of
from caffepy.errors import DataError


class Pair(NamedTuple):
    """A line of a list of two files, or of a file and a number."""

    name: str
    label: str
    line: int


def read_pairs(path: str | PathLike[str], both: bool = True) -> list[Pair]:
    """The first two words of each line, or, unless `both`, the first and nothing; empty lines are passed over.

    Raises DataError with the line number where the second is missing.
    """
    pairs = []
    for number, line in lines_of(str(path)):
        name, *rest = line.split()
        if both and not rest:
            raise DataError(
                f'nothing stands behind "{name}"',
                where=f"{path}:{number}",
                hint="Each line is a path, a blank, a label.",
            )
        pairs.append(Pair(name, rest[0] if both else "", number))
    if not pairs:
        raise DataError("the list of images is empty", where=str(path), hint="Each line is a path, a blank, a label.")
    return pairs
