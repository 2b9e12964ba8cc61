"""AUC, GAUC and LogLoss, of batches and of whole tests."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ShapeError
from caffepy.layers.auc import grouped_auc
from tests.support import ENGINES, Built

pytestmark = pytest.mark.parametrize("engine", ENGINES)
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.integers(0, 20, 200) / 20  # with ties
LABELS = RANDOM.random(200) < 0.3 + 0.4 * SCORES
GROUPS = RANDOM.integers(0, 40, 200)
MASK = RANDOM.random(200) < 0.6


def pairs(scores, labels) -> float | None:
    """The AUC by looking at every pair."""
    found = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
    return float(np.mean(found)) if found else None


def by_group(scores, labels, groups) -> float:
    found = [(pairs(scores[groups == g], labels[groups == g]), (groups == g).sum()) for g in set(groups)]
    kept = [(value, n) for value, n in found if value is not None]
    assert len(kept) < len(found)  # some groups have one label only
    return sum(value * n for value, n in kept) / sum(n for _, n in kept)


def log_loss(p, labels) -> float:
    return -np.log(np.clip(np.where(labels, p, 1 - p), 1e-7, 1)).mean()


CASES = [
    ("AUC", [SCORES, LABELS], lambda at: pairs(SCORES[at], LABELS[at])),
    ("GAUC", [SCORES, LABELS, GROUPS], lambda at: by_group(SCORES[at], LABELS[at], GROUPS[at])),
    ("LogLoss", [SCORES, LABELS], lambda at: log_loss(SCORES[at], LABELS[at])),
]


@pytest.mark.parametrize("kind, bottoms, expected", CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_batch_and_the_mask_of_a_task(kind, bottoms, expected, engine):
    everything = Built(f'type: "{kind}"', *bottoms, engine=engine).forward()[0]
    assert everything == pytest.approx(expected(slice(None)), rel=1e-5)
    masked = Built(f'type: "{kind}"', *bottoms, MASK, engine=engine).forward()[0]
    assert masked == pytest.approx(expected(MASK), rel=1e-5)


@pytest.mark.parametrize("kind, bottoms, expected", CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_test_has_the_score_of_all_its_items(kind, bottoms, expected, engine):
    built = Built(f'type: "{kind}"', *(b[:50] for b in bottoms), engine=engine)
    first, second = built.layer.meter(0), built.layer.meter(0)
    for start in range(0, 200, 50):
        for blob, values in zip(built.bottom, bottoms):
            blob.fill(values[start : start + 50])
        built.forward()
        (first if start < 100 else second).add(built.top[0], built.bottom, 1)
    first.merge(second)
    assert first.value() == pytest.approx(expected(slice(None)), rel=1e-6)


@pytest.mark.parametrize("kind, value", [("AUC", 0.5), ("LogLoss", 0)])
def test_nothing_to_score(kind, value, engine):
    assert Built(f'type: "{kind}"', [1, 2], [1, 0], [0, 0], engine=engine).forward()[0] == value
    if kind == "AUC":
        assert Built('type: "AUC"', [1, 2], [1, 1], engine=engine).forward()[0] == 0.5


def test_counts_that_differ(engine):
    with pytest.raises(ShapeError, match="must have the same count"):
        Built('type: "AUC"', [1, 2], [1], engine=engine)


def test_scores_that_are_no_numbers_have_no_area(engine):
    assert np.isnan(grouped_auc(np.array([1, np.nan]), np.array([0, 1]), np.zeros(2)))
