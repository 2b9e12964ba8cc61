"""Reading CSV files, gzipped or not, as columns of words."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from io import BytesIO, StringIO
from typing import NamedTuple

import numpy as np

from caffepy import limits
from caffepy.errors import DataError
from caffepy.files import near_names, read_file


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
        data = read_file(path)
        if data[:2] == b"\x1f\x8b":
            data = _unpacked(data, path)
        lines = StringIO(data.decode(), newline="")
        return [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror or error}", where=path, hint=near_names(path)) from None
    except (UnicodeDecodeError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"this is no CSV file: {error}", where=path) from None


def _unpacked(packed: bytes, path: str) -> bytes:
    parts, size = [], 0
    with gzip.open(BytesIO(packed)) as file:
        while part := file.read(1 << 20):
            size += len(part)
            limits.check_unpacked(size, len(packed), "the gzipped file", where=path)
            parts.append(part)
    return b"".join(parts)
