"""Text files of records: MovieLens' tabs, `::` and `|`, and CSV with or without names of columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from caffepy.errors import DataError, MissingExtraError
from caffepy.files import near_names, read_file


class Records(NamedTuple):
    """Fields of each record with the number of its line, and the names of columns, if the file has a line of them."""

    path: str
    names: list[str]
    rows: Iterator[tuple[int, list[str]]]


def read_records(path: str) -> Records:
    """The records of a text file, or of Parquet by its name's end."""
    if path.endswith(".parquet"):
        return _parquet(path)
    lines = _text(path).splitlines()
    delimiter = _delimiter(lines[0]) if lines else ","
    if delimiter == "::":
        split: Iterator[list[str]] = (line.split("::") for line in lines)
    elif delimiter == ",":
        split = csv.reader(lines)
    else:
        split = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    rows = ((number, row) for number, row in enumerate(split, 1) if row and row != [""])
    first = next(rows, None)
    if first is None:
        raise DataError("the file is empty", where=path)
    if is_header(first[1]):
        return Records(path, [plain(name) for name in first[1]], rows)
    return Records(path, [], _with(first, rows))


def plain(name: str) -> str:
    """A column's name without capitals, signs and the type that RecBole writes behind it: userId, user_id:token."""
    return re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0])


def is_header(fields: list[str]) -> bool:
    """Whether these are names: no field begins with a digit, as ids and ratings do."""
    return not any(re.match(r"-?\.?\d", field) for field in fields) and any(fields)


def _with(first: tuple[int, list[str]], rest: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


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
    return Records(path, [plain(name) for name in table.column_names], enumerate(map(list, zip(*columns)), 1))
