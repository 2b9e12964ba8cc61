"""Rows by an id that they share: all ratings of a user, of an item."""

from __future__ import annotations

import numpy as np


class RowGroups:
    """The rows of each id of `keys` (N,), in the order of the table; ids without rows are no groups."""

    def __init__(self, keys: np.ndarray):
        self.rows = np.argsort(keys, kind="stable")
        self.keys, self.starts, self.counts = np.unique(keys[self.rows], return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self.keys)

    def padded(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of these groups (B, L), L those of the longest, and which of them are rows and not padding."""
        counts = self.counts[groups]
        place = np.arange(max(1, counts.max(initial=0)))
        mask = place < counts[:, None]
        return self.rows[np.where(mask, self.starts[groups][:, None] + place, 0)], mask
