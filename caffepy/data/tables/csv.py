"""Reading CSV files, gzipped or not, as columns of words."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from caffepy.errors import DataError
from caffepy.files import near_names


class Words(NamedTuple):
    """The columns of a file, and the line that its first row stands on."""

    path: str
    names: list[str]
    columns: dict[str, np.ndarray]
    first_line: int

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def where(self, row: int) -> str:
        return f"{self.path}:{self.first_line + row}"


def read(path: str, names: Sequence[str], delimiter: str = ",") -> Words:
    """The columns of a CSV file. Its first line is a header where it has all `names`, else they are its columns' names.

    Raises DataError, with the line, for rows of another length.
    """
    rows = _rows(path, delimiter)
    if not rows:
        raise DataError("the file is empty", where=path)
    first_line = 1
    found = [word.strip() for word in rows[0]]
    if set(names) <= set(found):
        rows, first_line = rows[1:], 2
    else:
        found = list(names)
    for i, row in enumerate(rows):
        if len(row) != len(found):
            raise DataError(
                f"the row has {len(row)} columns, {len(found)} are expected",
                where=f"{path}:{first_line + i}",
                hint="A file without a header needs all its columns named, in order; NAME:skip for those not wanted.",
            )
    columns = {name: np.array([row[i].strip() for row in rows], object) for i, name in enumerate(found)}
    return Words(path, found, columns, first_line)


def _rows(path: str, delimiter: str) -> list[list[str]]:
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file, delimiter=delimiter, skipinitialspace=True) if row]
    except OSError as error:
        raise DataError(f"cannot read the file: {error}", where=path, hint=near_names(path)) from None
    except (UnicodeDecodeError, EOFError, csv.Error) as error:
        raise DataError(f"this is no CSV file: {error}", where=path) from None
