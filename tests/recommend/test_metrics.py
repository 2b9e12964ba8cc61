"""Metrics of rankings against their definitions on a ranking that can be read."""

from types import SimpleNamespace

import numpy as np
import pytest

from caffepy.data.tables.table import open_table
from caffepy.data.tables.writer import write_table
from caffepy.errors import DataError
from caffepy.recommend import evaluation
from caffepy.recommend.metrics import Rankings, _best
from tests.recommend import small


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

        def vocabulary(self, name):
            return ["0", "1"]

    columns = {
        "user": np.array([0, 1]),
        "item": np.array([0, 0]),
        "rating": np.array([3.0, 4.0]),
        "day": np.array([3, 4]),
    }
    monkeypatch.setattr(evaluation, "open_table", lambda path: Table(columns))
    asked = SimpleNamespace(
        table=Table(), data=SimpleNamespace(names=["user", "item", "day"]), scores=lambda user, item, day: day
    )
    assert evaluation.rating_errors(asked, "test.h5") == {"rmse": 0, "mae": 0}


def test_equal_scores_favour_nobody():
    """A model that knows nothing has what chance gives, wherever the relevant items stand in the table."""
    items = 60
    for constant in (np.zeros((items, items)), np.tile(np.repeat([1.0, 0.0], items // 2), (items, 1))):
        rankings = Rankings(6)
        rankings.add(constant, np.eye(items, dtype=bool))
        found = rankings.value()
        assert found["hit_rate@6"] == pytest.approx(6 / items)
        assert found["mrr@6"] == pytest.approx(np.mean(1 / np.arange(1, items + 1)))
    one = Rankings(6)
    one.add(np.zeros((1, items)), np.eye(1, items, dtype=bool))
    assert one.value()["mrr@6"] < 1


def test_the_best_of_many_equal_ones_are_as_a_full_sort_has_them():
    random = np.random.default_rng(1)
    scores = random.integers(4, size=(50, 30)).astype(float)
    scores[random.random(scores.shape) < 0.3] = -np.inf
    assert np.array_equal(_best(scores, 7), np.argsort(-scores, axis=1, kind="stable")[:, :7])


def test_a_test_of_another_conversion_is_refused(tmp_path):
    small.write(tmp_path)
    other = open_table(str(tmp_path / "test.h5"))
    words = {**other.vocabularies, "item": [f"x{i}" for i in range(small.ITEMS)]}
    write_table(tmp_path / "other.h5", other.columns, words)
    scorer = SimpleNamespace(table=open_table(str(tmp_path / "train.h5")))
    for question in (evaluation.rating_errors, lambda *args: evaluation.ranking_metrics(*args, 10, 0)):
        with pytest.raises(DataError, match=r"other\.h5: its items are numbered otherwise than those of .*train\.h5"):
            question(scorer, str(tmp_path / "other.h5"))
