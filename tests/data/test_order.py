"""Which record comes next, against a list that is simply written down."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from caffepy import rng
from caffepy.data.order import Cursor, ListOrder, Order
from caffepy.data.permutation import _mixed


def take(order: Order, batches: list[int], cursor: Cursor = Cursor()) -> tuple[list[int], Cursor]:  # noqa: B008
    out = []
    for count in batches:
        indices, cursor = order.advance(cursor, count)
        out += indices
    return out, cursor


@pytest.mark.parametrize("batches", [[3] * 7, [21], [1] * 21, [8, 13], [0, 21, 0]])
def test_round_and_round(batches):
    assert take(Order(8), batches) == ([i % 8 for i in range(21)], Cursor(2, 5))


def test_a_batch_may_be_longer_than_the_data():
    assert take(Order(2), [5, 1]) == ([0, 1, 0, 1, 0, 1], Cursor(3, 0))


def test_an_epoch_ends_with_the_next_one_at_its_start():
    assert Order(4).advance(Cursor(), 4)[1] == Cursor(1, 0)


@pytest.mark.parametrize("length", [1, 8, 1000])
def test_shuffled_epochs_are_permutations_that_differ(length):
    order = Order(length, shuffle=True, seed=3)
    indices, _ = take(order, [length] * 3)
    epochs = [indices[i * length : (i + 1) * length] for i in range(3)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    if length > 1:
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert take(order._replace(seed=4), [length])[0] != epochs[0] or length == 1


def test_shuffling_depends_on_seed_and_epoch_alone():
    order = Order(10, shuffle=True, seed=3)
    all_at_once, _ = take(order, [200])  # more epochs than are remembered
    first, cursor = take(order, [7, 7, 60])
    rest, _ = take(Order(10, shuffle=True, seed=3), [126], Cursor(*cursor))
    assert first + rest == all_at_once


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("length", "size"), [(10, 3), (4, 4), (2, 3)])
def test_processes_share_the_records_out(length, size, shuffle):
    whole, _ = take(Order(length, shuffle, 1), [12 * size])
    for rank in range(size):
        part, _ = take(Order(length, shuffle, 1, rank, size), [5, 7])
        assert part == whole[rank::size]


def test_a_list_is_made_where_a_walk_begins_not_for_every_record(monkeypatch):
    order = ListOrder(50, shuffle=True, seed=9)
    first = order.permuted(0, 0)
    with monkeypatch.context() as later:
        later.setattr("caffepy.data.permutation.np.arange", None)
        assert order.permuted(0, 0) == first


class Counted:
    """A generator that counts how often numbers are asked for, and how many they were."""

    def __init__(self, seed: int):
        self.bit_generator, self.calls, self.numbers, self.raw = self, 0, 0, rng.mt19937(seed).bit_generator.random_raw

    def random_raw(self, count: int | None = None) -> int | np.ndarray:
        self.calls, self.numbers = self.calls + 1, self.numbers + (1 if count is None else count)
        return self.raw(count)


def test_numbers_for_mixing_are_drawn_in_blocks_and_none_too_many():
    length, random, plain = 150_000, Counted(4), Counted(4)
    expected = list(range(length))
    for i in range(length - 1, 0, -1):
        while (j := int(plain.random_raw()) // (2**32 // (i + 1))) > i:
            pass
        expected[i], expected[j] = expected[j], expected[i]
    assert _mixed(np.arange(length), random).tolist() == expected
    assert random.numbers == plain.numbers > length - 1  # some are rejected
    assert random.calls < length / 1000
    for few in (0, 1, 2):
        assert sorted(_mixed(np.arange(few), random)) == list(range(few))


def test_a_list_mixed_on_several_threads_at_once():
    order = ListOrder(200, shuffle=True, seed=5)
    expected = [order.permuted(epoch, i) for epoch in range(6) for i in range(200)]
    wrong = []

    def read() -> None:
        for _ in range(5):
            wrong.extend([1] * ([order.permuted(epoch, i) for epoch in range(6) for i in range(200)] != expected))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_list_is_mixed_anew_for_each_epoch_from_what_the_last_one_left():
    order = ListOrder(50, shuffle=True, seed=5)
    third = [order.permuted(2, i) for i in range(50)]
    first = [order.permuted(0, i) for i in range(50)]  # back to the start
    assert sorted(first) == sorted(third) == list(range(50))
    assert [order.permuted(2, i) for i in range(50)] == third != first


def test_no_list_is_walked_through_for_hours():
    order = ListOrder(3, shuffle=True, seed=1)
    order.check(Cursor(1000, 2))
    for cursor in (Cursor(2**40, 0), Cursor(0, 2**31)):
        with pytest.raises(ValueError, match="a list that was shuffled"):
            order.check(cursor)
    ListOrder(3).check(Cursor(2**40, 0))  # as it lies
