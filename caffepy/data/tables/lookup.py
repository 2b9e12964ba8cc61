"""What a top of TableData holds for given rows: a column, a feature of a column's ids, the mask of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from caffepy.data.tables.table import Column, Table
from caffepy.errors import ConfigError, DataError, did_you_mean

EXACT = 2**24
"""Integers up to here are float32 numbers."""
MASK = "_mask"
TIMES = ("timestamp", "day")
"""Columns that ratings with times have."""


class Lookup(NamedTuple):
    """A top: what the table's column `source` holds or, `by_id`, what `column` has for the ids there."""

    column: Column
    source: str
    by_id: bool = False
    is_mask: bool = False

    @property
    def size(self) -> int:
        """How many ids it may hold; 0 for what is no ids."""
        return 0 if self.is_mask else self.column.size

    def __call__(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of rows whose columns have these `values`, of any shape: float32 of that shape, of lists one axis more."""
        found = values[self.source]
        if self.by_id:
            found = self.column.values[found.astype(np.int64)]
        if self.is_mask:
            return (found >= 0).astype(np.float32)
        if self.column.is_list:
            found = np.maximum(found, 0)
        return found.astype(np.float32)


def find(table: Table, name: str) -> Lookup:
    """What `name` means. Raises ConfigError with the nearest name, DataError for what float32 would round."""
    base = name.removesuffix(MASK)
    is_mask = base != name and name not in table.columns
    name = base if is_mask else name
    source = name
    if name in table.columns:
        column = table.columns[name]
    elif found := table.feature(name):
        source, column = found
    else:
        known = [*table.columns, *(n for features in table.features.values() for n in features)]
        hint = did_you_mean(name, known) or f"It has {', '.join(known)}."
        if name in TIMES:
            hint += " Convert a file with timestamps, or use a model without time."
        raise ConfigError(f'the table {table.path} has no column "{name}"', hint=hint)
    if is_mask and not column.is_list:
        raise ConfigError(f'"{name}{MASK}" would be the mask of "{name}", which is no list')
    _check_exact(table, name, column)
    return Lookup(column, source, source != name, is_mask)


def _check_exact(table: Table, name: str, column: Column) -> None:
    if column.is_text:
        raise ConfigError(f'the column "{name}" of {table.path} holds words, a net takes numbers')
    values = column.values
    is_whole = values.dtype.kind in "iu" or bool((np.isfinite(values) & (values == np.floor(values))).all())
    if column.size and not is_whole:
        raise DataError(f'the column "{name}" of ids holds numbers that are not whole', where=table.path)
    if is_whole and (column.size > EXACT or not _fits(values, column)):
        raise DataError(
            f'the column "{name}" has integers beyond {EXACT}, which float32 would round',
            where=table.path,
            hint='Use a column of smaller numbers: for "timestamp" there is "day".' if name == "timestamp" else "",
        )


def _fits(values: np.ndarray, column: Column) -> bool:
    """Whether no integer is rounded in float32; of floats that are no ids, those that are exact there pass."""
    if not values.size:
        return True
    if values.dtype.kind == "f" and not column.size:
        with np.errstate(over="ignore"):
            return np.array_equal(values, values.astype(np.float32))
    return max(int(values.max()), -int(values.min())) <= EXACT
