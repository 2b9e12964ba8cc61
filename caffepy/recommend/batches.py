"""Which ratings are taken together in a pass of stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffepy.recommend.history import UserHistory

_ROWS = 1 << 17
"""Mixed at once. A permutation of ten million rows goes through memory, and takes three times as long a row."""
_PIECES = 1 << 12
"""Handed out at once."""


class HistoryPiece(NamedTuple):
    """Some pieces: the user of each, their rows one piece after the other, and where each ends."""

    users: list[int]
    rows: np.ndarray
    ends: list[int]


def pieces(history: UserHistory, most: int, random: np.random.Generator) -> Iterator[HistoryPiece]:
    """All rows once, in pieces of at most `most` rows of one user, in random order.

    The items of a piece differ: a step for all of it is two products of a vector and a matrix, and nothing adds up.
    """
    order = _mixed_within_users(history, random)
    numbers = -(-history.user_counts // most)
    user = np.repeat(np.arange(len(numbers)), numbers)
    first = history.starts[user] + most * (np.arange(len(user)) - (np.cumsum(numbers) - numbers)[user])
    chosen = np.empty_like(user)
    chosen[random.permutation(len(user))] = np.arange(len(user))
    lengths = np.minimum(most, history.starts[user + 1] - first)
    for a in range(0, len(user), _PIECES):
        part = chosen[a : a + _PIECES]
        ends = np.cumsum(lengths[part])
        places = np.repeat(first[part] - (ends - lengths[part]), lengths[part]) + np.arange(ends[-1])
        yield HistoryPiece(user[part].tolist(), order[places], ends.tolist())


def _mixed_within_users(history: UserHistory, random: np.random.Generator) -> np.ndarray:
    """The rows of each user at random, users in their order."""
    out, a = np.empty(len(history), np.int64), 0
    while a < len(out):
        b = int(history.starts[history.user[min(a + _ROWS, len(out)) - 1] + 1])
        order = random.permutation(b - a)
        out[a:b] = a + order[sorted_by(history.user[a:b][order] - history.user[a])]
        a = b
    return out


def sorted_by(numbers: np.ndarray) -> np.ndarray:
    """The order of these numbers in 0 .. 2^32 - 1, equal ones as they come."""
    # By digits of 16 bits, as numpy sorts uint16: ten times as fast as int64, in time that is linear.
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if len(numbers) and int(numbers.max()) >= 1 << 16:
        high = (numbers >> 16).astype(np.uint16)
        order = order[np.argsort(high[order], kind="stable")]
    return order
