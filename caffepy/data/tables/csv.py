"""Reading CSV files, gzipped or not, as columns of words."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import NamedTuple

import numpy as np

from caffepy.errors import DataError, did_you_mean, nearest
from caffepy.files import near_names, read_file, unzipped


class Words(NamedTuple):
    """The columns of a file, and the line that each row begins on."""

    path: str
    names: list[str]
    columns: dict[str, np.ndarray]
    lines: list[int]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def where(self, row: int) -> str:
        return f"{self.path}:{self.lines[row]}"


def read(path: str, names: Sequence[str], delimiter: str = ",") -> Words:
    """The columns of a CSV file. Its first line is a header where it has all `names`, else they are its columns' names.

    Raises DataError, with the line, for rows of another length and quotes that do not end, and with the nearest name
    for a header that lacks one of `names`.
    """
    lines, rows = _rows(path, delimiter)
    if not rows:
        raise DataError("the file is empty", where=path)
    found = [word.strip() for word in rows[0]]
    if set(names) <= set(found):
        lines, rows = lines[1:], rows[1:]
    else:
        _check_no_header(path, found, names)
        found = list(names)
    for line, row in zip(lines, rows):
        if len(row) != len(found):
            raise DataError(
                f"the row has {len(row)} columns, {len(found)} are expected",
                where=f"{path}:{line}",
                hint="A file without a header needs all its columns named, in order; NAME:skip for those not wanted.",
            )
    columns = {name: np.array([row[i].strip() for row in rows], object) for i, name in enumerate(found)}
    return Words(path, found, columns, lines)


def fields_of(line: str, delimiter: str = ",") -> list[str]:
    """The fields of a line of CSV. Raises ValueError for a quote that does not end in it, or in front of more."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        raise ValueError("a quote in the line does not end where its field does") from None


def _check_no_header(path: str, first: list[str], names: Sequence[str]) -> None:
    """Raises DataError where the first line has no numbers, but one of the names, or two that are nearly these."""
    missing = [name for name in names if name not in first]
    near = sum(bool(nearest(name, first)) for name in missing)
    if not any(map(_is_number, first)) and (len(missing) < len(names) or near > 1):
        hint = did_you_mean(missing[0], first) or f"It has {', '.join(first)}."
        raise DataError(f'the header has no column "{missing[0]}"', where=f"{path}:1", hint=hint)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _rows(path: str, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """The lines on which rows begin, and the rows."""
    try:
        data = unzipped(read_file(path), path)
        found = list(_numbered(path, data.decode("utf-8-sig"), delimiter))
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror or error}", where=path, hint=near_names(path)) from None
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise DataError(f"this is no CSV file: {error}", where=path) from None
    return [line for line, _ in found], [row for _, row in found]


def _numbered(path: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty and the lines they begin on; a quoted field may go on over several lines."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "field larger than" in str(error):
                raise DataError(
                    f"a field of the row has more than {csv.field_size_limit()} characters", where=f"{path}:{line}"
                ) from None
            raise DataError(
                "a quote in the row does not end where its field does",
                where=f"{path}:{line}",
                hint='A quote within quotes is written "".',
            ) from None
        if row:
            yield line, row
