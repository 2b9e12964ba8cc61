"""Metrics of rankings against their definitions on a ranking that can be read."""

from types import SimpleNamespace

import numpy as np
import pytest

from caffepy.recommend import evaluation
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


def test_errors_of_a_model_that_knows_days_are_on_those_of_the_test(monkeypatch):
    class Table(dict):
        def __len__(self):
            return 2

    columns = {
        "user": np.array([0, 1]),
        "item": np.array([0, 0]),
        "rating": np.array([3.0, 4.0]),
        "day": np.array([3, 4]),
    }
    monkeypatch.setattr(evaluation, "open_table", lambda path: Table(columns))
    asked = SimpleNamespace(data=SimpleNamespace(names=["user", "item", "day"]), scores=lambda user, item, day: day)
    assert evaluation.rating_errors(asked, "test.h5") == {"rmse": 0, "mae": 0}
