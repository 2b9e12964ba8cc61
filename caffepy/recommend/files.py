"""Text files of records: MovieLens' tabs, `::` and `|`, and CSV with or without names of columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from caffepy.data.tables.csv import fields_of
from caffepy.errors import DataError, MissingExtraError
from caffepy.files import near_names, read_file


class Records(NamedTuple):
    """Lines with their numbers, what divides one into fields, and the names of columns, if the first line has them."""

    path: str
    names: list[str]
    width: int
    """Fields of the first line."""
    lines: Iterable[tuple[int, Any]]
    fields: Callable[[Any], list[str]]
    """Raises ValueError for a line that cannot be divided."""

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each line's fields. Raises DataError with the line for one that cannot be divided."""
        for number, line in self.lines:
            try:
                yield number, self.fields(line)
            except ValueError as error:
                raise DataError(str(error), where=f"{self.path}:{number}") from None


def read_records(path: str) -> Records:
    """The records of a text file, a line each, or of Parquet by its name's end."""
    if path.endswith(".parquet"):
        return _parquet(path)
    text = StringIO(_text(path), newline=None)  # lines end with \n, \r\n or \r, and nothing else
    lines = [(number, line.rstrip("\n")) for number, line in enumerate(text, 1) if line != "\n"]
    if not lines:
        raise DataError("the file is empty", where=path)
    mark = _delimiter(lines[0][1])

    def fields(line: str) -> list[str]:
        return fields_of(line, mark) if mark in ",;" else line.split(mark)

    first = _first(lines, fields)
    if lines[0] == first[0] and is_header(first[1]):
        return Records(path, [plain(name) for name in first[1]], len(first[1]), lines[1:], fields)
    return Records(path, [], len(first[1]), lines, fields)


def _first(lines: list[tuple[int, str]], fields: Callable[[str], list[str]]) -> tuple[tuple[int, str], list[str]]:
    """The first line that can be divided, and its fields; none where there is none."""
    for entry in lines:
        try:
            return entry, fields(entry[1])
        except ValueError:
            continue
    return (0, ""), []


def plain(name: str) -> str:
    """A column's name without capitals, signs and the type that RecBole writes behind it: userId, user_id:token."""
    return re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0])


def is_header(fields: list[str]) -> bool:
    """Whether these are names: no field begins with a digit, as ids and ratings do."""
    return not any(re.match(r"-?\.?\d", field) for field in fields) and any(fields)


def _delimiter(line: str) -> str:
    return next((mark for mark in ("::", "\t", "|", ",", ";") if mark in line), ",")


def _text(path: str) -> str:
    try:
        data = read_file(path)
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=path, hint=near_names(path)) from None
    if b"\0" in data[:4096]:
        raise DataError("this is no text file", where=path, hint="Parquet files end in .parquet.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # MovieLens' older files


def _parquet(path: str) -> Records:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "reading Parquet") from None
    if not Path(path).is_file():
        raise DataError("cannot read the file: there is none", where=path, hint=near_names(path))
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow's own families
        raise DataError(f"this is no complete Parquet file: {error}", where=path) from None
    columns = [map(str, table.column(name).to_pylist()) for name in table.column_names]
    names = [plain(name) for name in table.column_names]
    return Records(path, names, len(names), enumerate(map(list, zip(*columns)), 1), list)
