"""Permutations of records: of numpy, and Caffe's walk of a list from epoch to epoch."""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np

from caffepy import rng


def list_permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """A walk from the list as it lies: it is kept where it stands, since the next epoch begins there."""
    with _lock:  # of nets with the same seed, each on its own thread
        known = _lists.pop((seed, length), None)
        # The list as it lies is made only where a walk begins: this is asked for every record.
        if known is None or known[0] > epoch:
            known = -1, np.arange(length), rng.mt19937(seed)
        at, order, random = known
        while at < epoch:
            order = _mixed(order, random)
            at += 1
        while len(_lists) >= _KEPT:
            del _lists[next(iter(_lists))]
        _lists[seed, length] = at, order, random
        return order


MOST_EPOCHS = 1_000_000
_KEPT = 8
"""Permutations that are remembered, of a few epochs of a few sources."""
_lock = threading.Lock()
_lists: dict[tuple[int, int], tuple[int, np.ndarray, np.random.Generator]] = {}


def _mixed(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Fisher-Yates from the end, each place drawn evenly by division of 32-bit numbers (rejecting the excess)."""
    mixed = values.tolist()
    last = len(mixed) - 1
    while last > 0:
        numbers = random.bit_generator.random_raw(min(last, _BLOCK)).astype(np.int64)
        while numbers.size:
            places = np.arange(last, last - numbers.size, -1)
            drawn = numbers // (2**32 // (places + 1))
            rejected = np.flatnonzero(drawn > places)
            count = int(rejected[0]) if rejected.size else numbers.size
            for i, j in zip(places[:count].tolist(), drawn[:count].tolist()):
                mixed[i], mixed[j] = mixed[j], mixed[i]
            last -= count
            numbers = numbers[count + 1 :]
    return np.array(mixed)


_BLOCK = 4096
"""Numbers drawn at once (a million are mixed in 0.7 s, not in 1.7); hardly any block has one that is rejected."""


@lru_cache(_KEPT)
def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length).astype(np.uint32)
