"""Which ratings are taken together in a pass of stochastic gradient descent."""

from __future__ import annotations

import numpy as np

from caffepy.recommend.history import UserHistory


def pieces(history: UserHistory, most: int, random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """All rows once, in pieces of at most `most` rows of one user, in random order; where each piece ends.

    The items of a piece differ: a step for all of it is two products of a vector and a matrix, and nothing adds up.
    """
    count = len(history)
    order = random.permutation(count)
    order = order[sorted_by(history.user[order])]  # those of a user at random
    place = np.arange(count) - history.starts[history.user]
    piece = np.cumsum(place % most == 0) - 1
    mixed = random.permutation(int(piece[-1]) + 1)[piece]
    return order[sorted_by(mixed)], np.cumsum(np.bincount(mixed)).tolist()


def sorted_by(numbers: np.ndarray) -> np.ndarray:
    """The order of these numbers in 0 .. 2^32 - 1, equal ones as they come."""
    # By digits of 16 bits, as numpy sorts uint16: ten times as fast as int64, in time that is linear.
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if len(numbers) and int(numbers.max()) >= 1 << 16:
        high = (numbers >> 16).astype(np.uint16)
        order = order[np.argsort(high[order], kind="stable")]
    return order
