"""Processes meet under a fresh name, whatever an earlier start has left in the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

dist = pytest.importorskip("torch").distributed

from caffepy.distributed.meeting import exchange, meet


def start(store, size: int) -> set[str]:
    with ThreadPoolExecutor(size) as pool:
        return set(pool.map(lambda rank: meet(store, rank, size, 20), reversed(range(size))))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_start_has_one_name_of_its_own(size):
    store = dist.HashStore()
    names = [start(store, size) for _ in range(3)]
    assert [len(found) for found in names] == [1, 1, 1] and len(set.union(*names)) == 3


def test_a_process_that_does_not_come_is_named():
    with pytest.raises(TimeoutError, match="process 1, 2 of 3 did not come"):
        meet(dist.HashStore(), 0, 3, 0.05)
    with pytest.raises(TimeoutError, match="the first process does not answer"):
        meet(dist.HashStore(), 1, 3, 0.05)


def test_all_hear_what_each_says():
    store = dist.HashStore()
    with ThreadPoolExecutor(3) as pool:
        heard = list(pool.map(lambda rank: exchange(store, rank, 3, f"I am {rank}"), (2, 0, 1)))
    assert heard == [["I am 0", "I am 1", "I am 2"]] * 3
