"""Items that a user has no row with, drawn at random."""

from __future__ import annotations

import numpy as np

from caffepy.data.tables.table import pair_numbers

_TRIES = 20


def draw(users: np.ndarray, count: int, num_items: int, pairs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each of `users` (B,) so many items (B, count), evenly among those whose pair is not in the sorted `pairs`.

    A user who has nearly all items may, after 20 draws, get one of them.
    """
    items = random.integers(num_items, size=(len(users), count))
    wide = np.broadcast_to(users[:, None], items.shape)
    for _ in range(_TRIES):
        numbers = pair_numbers(wide, items, num_items)
        place = np.minimum(np.searchsorted(pairs, numbers), max(0, len(pairs) - 1))
        taken = pairs[place] == numbers if len(pairs) else np.zeros(items.shape, bool)
        if not taken.any():
            break
        items[taken] = random.integers(num_items, size=int(taken.sum()))
    return items
