"""The orders of texts: streams go on, windows and sentences are mixed, all are functions of the cursor alone."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.data.order import Cursor
from caffepy.data.texts.buckets import Buckets
from caffepy.data.texts.order import Streams, Windows


def walked(order, count):
    """What `count` batches take, from the first."""
    found, cursor = [], Cursor()
    for _ in range(count):
        *taken, cursor = order.take(cursor)
        found.append(taken)
    return found, cursor


def test_streams_lie_side_by_side_and_go_on():
    order = Streams(length=22, count=2, steps=3)  # stretches of 10 tokens, of which 9 are read
    found, cursor = walked(order, 4)
    assert [starts.tolist() for starts, _ in found] == [[0, 10], [3, 13], [6, 16], [0, 10]]
    assert [goes_on for _, goes_on in found] == [False, True, True, False]
    assert cursor == Cursor(1, 1)


def test_streams_of_two_processes():
    whole, _ = walked(Streams(41, 4, 5), 2)
    apart = [walked(Streams(41, 2, 5, rank, 2), 2)[0] for rank in (0, 1)]
    for i, (starts, _) in enumerate(whole):
        assert [*apart[0][i][0], *apart[1][i][0]] == starts.tolist()


def test_windows_cover_each_epoch_from_a_place_of_its_own():
    order = Windows(length=100, count=3, steps=8, seed=4)
    assert (order.windows, order.batches) == (11, 3)
    found, _ = walked(order, 11)  # three epochs
    starts = np.concatenate([starts for starts, _ in found]).reshape(3, 11)
    assert not any(goes_on for _, goes_on in found)
    for epoch in starts:
        ordered = np.sort(epoch)
        assert (np.diff(ordered) == 8).all() and ordered[0] >= 0 and ordered[-1] + 8 < 100
    assert len({int(epoch.min()) for epoch in starts}) > 1
    assert not np.array_equal(np.argsort(starts[0]), np.argsort(starts[1]))


@pytest.mark.parametrize("size", [1, 2])
def test_sentences_of_a_batch_are_of_like_length(size):
    lengths = np.random.default_rng(1).integers(1, 50, 101)
    ranks = [walked(Buckets(lengths, 8, True, 3, rank, size), 40)[0] for rank in range(size)]
    together = [np.stack([ranks[rank][i][0] for rank in range(size)], axis=1).ravel() for i in range(40)]
    everything = np.concatenate(together)
    for epoch in range(2):
        assert sorted(everything[101 * epoch : 101 * epoch + 101]) == list(range(101))
    spans = [np.ptp(lengths[batch]) for batch in together]
    assert np.mean(spans) < 8 * size
    mixed = np.random.default_rng(2).permutation(101)[: 8 * size]
    assert np.mean(spans) < np.ptp(lengths[mixed]) / 2
    assert not np.array_equal(together[0], together[13])


def test_unmixed_sentences_come_as_they_lie():
    found, cursor = walked(Buckets(np.array([3, 1, 2]), 2, False, 0), 3)
    assert [chosen.tolist() for (chosen,) in found] == [[0, 1], [2, 0], [1, 2]]
    assert cursor == Cursor(2, 0)


@pytest.mark.parametrize("make", [lambda: Windows(100, 3, 8, 4), lambda: Buckets(np.arange(1, 20), 4, True, 5)])
def test_a_cursor_is_all_there_is_to_know(make):
    found, _ = walked(make(), 9)
    cursor = Cursor()
    for i in range(9):
        first, *_, cursor = make().take(cursor)
        assert np.array_equal(first, found[i][0])
