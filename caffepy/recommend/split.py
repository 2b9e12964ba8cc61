"""Ratings cut into those to learn from and those to test on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from caffepy.errors import ConfigError, DataError
from caffepy.recommend.ratings import Ratings

_KINDS = "random:0.2 (a share), leave-last:1 (of each user) or time:0.2 (the latest share)"


def split(ratings: Ratings, how: str, seed: int) -> np.ndarray:
    """Which rows are for the test. Raises ConfigError for what is no way to split."""
    kind, _, amount = how.partition(":")
    try:
        value = float(amount)
    except ValueError:
        value = -1
    if kind in ("random", "time") and 0 < value < 1:
        chosen = _random(len(ratings), value, seed) if kind == "random" else _latest(ratings, value)
    elif kind == "leave-last" and value >= 1 and value == int(value):
        chosen = _last_of_users(ratings, int(value))
    else:
        raise ConfigError(f'--split "{how}" is no way to split', hint=f"Write {_KINDS}.")
    if not chosen.any() or chosen.all():
        raise DataError(f"--split {how} leaves {'nothing to learn from' if chosen.all() else 'an empty test set'}")
    return chosen


def folds(count: int, parts: int, seed: int) -> Iterator[np.ndarray]:
    """For each of `parts` the rows of its test, which together are all rows, each once."""
    if not 2 <= parts <= count:
        raise ConfigError(f"--folds must lie in 2 .. {count}, the number of ratings, got {parts}")
    fold = np.random.default_rng(seed).permutation(count) % parts
    return (fold == i for i in range(parts))


def _random(count: int, share: float, seed: int) -> np.ndarray:
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: round(share * count)]] = True
    return chosen


def _latest(ratings: Ratings, share: float) -> np.ndarray:
    order = np.argsort(_times(ratings), kind="stable")
    chosen = np.zeros(len(ratings), bool)
    chosen[order[len(ratings) - round(share * len(ratings)) :]] = True
    return chosen


def _last_of_users(ratings: Ratings, count: int) -> np.ndarray:
    """The latest `count` of each user who has more than that."""
    _, users, sizes = np.unique(ratings.user, return_inverse=True, return_counts=True)
    order = np.lexsort((_times(ratings), users))
    from_end = np.cumsum(sizes)[users[order]] - np.arange(len(ratings))
    chosen = np.zeros(len(ratings), bool)
    chosen[order] = (from_end <= count) & (sizes[users[order]] > count)
    return chosen


def _times(ratings: Ratings) -> np.ndarray:
    if ratings.timestamp is None:
        raise DataError("the ratings have no timestamps to split by", hint="Use --split random:0.2.")
    return ratings.timestamp
