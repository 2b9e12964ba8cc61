"""Rows: the gradient of a table, of which a batch touches a few rows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from caffepy.engine import Engine

Array = Any


class Rows:
    """The gradient of a table (M, ...): `values` (n, K) to add up at the rows `index` (n,), zeros elsewhere.

    What is added stays as it comes until somebody asks for `merged`, so that a pass costs what it touches.
    """

    def __init__(self, engine: Engine, shape: tuple[int, ...]):
        self._engine, self._shape = engine, shape
        self._parts: list[tuple[Array, Array]] = []
        self._is_merged = False

    @property
    def width(self) -> int:
        """K, the elements of a row."""
        return prod(self._shape[1:])

    def add(self, index: Array, values: Array) -> None:
        """Add `values` (n, K), which are copied, at the rows `index` (n,); rows may repeat."""
        if index.shape[0]:
            self._parts.append((index, self._engine.copy(values)))
            self._is_merged = False

    def merged(self) -> tuple[Array, Array] | None:
        """The touched rows (n,), ascending, each once, and their sums (n, K); None where none is touched."""
        if not self._parts:
            return None
        if not self._is_merged:
            xp = self._engine.xp
            index, values = (xp.concat(arrays, axis=0) for arrays in zip(*self._parts))
            self.replace(*self._engine.merge_rows(index, values))
        return self._parts[0]

    def replace(self, index: Array, values: Array) -> None:
        """Let the gradient be these values at these rows, which ascend, each once."""
        self._parts = [(index, values)]
        self._is_merged = True

    def clear(self) -> None:
        """Set the gradient to zero."""
        self._parts, self._is_merged = [], False

    def fill(self, values: np.ndarray) -> None:
        """Let the gradient be that of a whole table: its rows that are not zero."""
        table = np.asarray(values, np.float32).reshape(self._shape[0], self.width)
        self.clear()
        index = np.flatnonzero(table.any(axis=1))
        if len(index):
            self.replace(self._engine.xp.asarray(index), self._engine.asarray(table[index]))

    def dense(self) -> np.ndarray:
        """The whole gradient as a numpy array of the table's shape: for files, and for who looks."""
        out = np.zeros((self._shape[0], self.width), np.float32)
        found = self.merged()
        if found is not None:
            index, values = (self._engine.to_host(array) for array in found)
            out[index] = values
        return out.reshape(self._shape)
