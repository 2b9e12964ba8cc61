"""Metrics of rankings against their definitions on a ranking that can be read."""

import numpy as np
import pytest

from caffepy.recommend.metrics import Rankings


def test_one_user():
    rankings = Rankings(3)
    scores = np.array([[5.0, 4, 3, 2, 1, -np.inf]])  # places 1 to 5, the last is not ranked
    relevant = np.array([[0, 1, 1, 0, 1, 0]], bool)
    rankings.add(scores, relevant)
    found = rankings.value()
    gains = 1 / np.log2([2, 3, 4])
    assert found["precision@3"] == pytest.approx(2 / 3)
    assert found["recall@3"] == pytest.approx(2 / 3)
    assert found["ndcg@3"] == pytest.approx((gains[1] + gains[2]) / gains.sum())
    assert found["map@3"] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert found["mrr@3"] == pytest.approx(1 / 2)
    assert found["hit_rate@3"] == 1
    assert found["coverage@3"] == pytest.approx(3 / 6)


def test_users_without_relevant_items_do_not_count_and_parts_merge():
    random = np.random.default_rng(0)
    scores, relevant = random.random((8, 9)), random.random((8, 9)) < 0.3
    relevant[3] = False
    whole, first, second = Rankings(4), Rankings(4), Rankings(4)
    whole.add(scores, relevant)
    first.add(scores[:5], relevant[:5]), second.add(scores[5:], relevant[5:])
    first.merge(second)
    assert whole.users == relevant.any(axis=1).sum()
    assert first.value() == pytest.approx(whole.value())
