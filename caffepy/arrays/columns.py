"""A dataset as the arrays of a net's inputs, of which each batch is made when it is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from caffepy.data.composition import Dataset, stacked
from caffepy.errors import ConfigError


class RecordRows:
    """The records of a dataset, of the epoch that `epoch` says, stacked; the last ones are kept for their columns."""

    def __init__(self, records: Dataset, names: Sequence[str]):
        self.records, self.epoch = records, 0
        first = records[0]
        named = isinstance(first, Mapping)
        parts = tuple(first.values()) if named else first if isinstance(first, tuple) else (first,)
        if not named and len(parts) > len(names):
            raise ConfigError(
                f"the records have {len(parts)} parts, the net's inputs are {', '.join(names)}",
                hint="Leave parts out with .map(), or give records that are dicts by the names of inputs.",
            )
        self.names = list(first) if named else list(names[: len(parts)])
        self.shapes = [np.shape(part) for part in parts]
        self._kept: tuple[Any, list[np.ndarray]] = None, []
        self._parts: dict[Any, RecordRows] = {}

    def part(self, key: Any) -> RecordRows:
        """The same records for a part of them, which others go through at the same time: one for each key."""
        if key not in self._parts:
            self._parts[key] = made = copy(self)
            made._kept, made._parts = (None, []), {}
        return self._parts[key]

    def get(self, numbers: np.ndarray) -> list[np.ndarray]:
        key = self.epoch, numbers.tobytes()
        if self._kept[0] != key:
            made = stacked(self.records.fetch(self.epoch, numbers.tolist()))
            values = made.values() if isinstance(made, Mapping) else made if isinstance(made, tuple) else (made,)
            self._kept = key, list(values)
        return self._kept[1]


class RowColumn:
    """A column of rows, as far as batches need an array: length, shape, and the values at numbers or in a slice."""

    def __init__(self, rows: RecordRows, which: int, numbers: np.ndarray, item: tuple[int, ...]):
        self.rows, self.which, self.numbers, self.item = rows, which, numbers, item
        self.shape, self.ndim = (len(numbers), *item), 1 + len(item)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, where: Any) -> np.ndarray:
        return self.rows.get(self.numbers[where])[self.which].reshape(-1, *self.item)

    def reshape(self, length: int, *item: int) -> RowColumn:
        return RowColumn(self.rows, self.which, self.numbers, item)

    def part(self, where: slice) -> RowColumn:
        return RowColumn(self.rows.part((where.start, where.stop)), self.which, self.numbers[where], self.item)


def columns_of(records: Dataset, names: Sequence[str]) -> dict[str, RowColumn]:
    """A column for each part of the records: dicts by the names of inputs, tuples in the inputs' order."""
    if not len(records):
        raise ConfigError("the dataset is empty")
    rows = RecordRows(records, names)
    return {
        name: RowColumn(rows, i, np.arange(len(records)), shape)
        for i, (name, shape) in enumerate(zip(rows.names, rows.shapes))
    }
