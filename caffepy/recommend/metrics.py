"""How good full rankings are: every item is ranked, none is left out to make it easy."""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ("precision", "recall", "ndcg", "map", "mrr", "hit_rate", "coverage")


class Rankings:
    """Adds up users; `value` are the means over those who have a relevant item, by name, at k.

    precision: relevant ones of the best k / k; recall: / all relevant ones; ndcg: each relevant one counts
    1 / log2(1 + place), over what the best order would have; map: the mean of the precisions at the relevant ones;
    mrr: 1 / the place of the first relevant one among all items; hit_rate: whether there is one among the k;
    coverage: the share of all items that are among anybody's k. Items of equal scores stand in an order that is drawn
    once, always the same: whoever gives many items one score gains nothing by which of them come first in the table.
    """

    def __init__(self, k: int):
        self.k, self.users = k, 0
        self.sums = np.zeros(len(NAMES) - 1)
        self.shown: np.ndarray | None = None

    def add(self, scores: np.ndarray, relevant: np.ndarray) -> None:
        """Users by items (B, I): scores, -inf for items that are not to be ranked; which are relevant."""
        if self.shown is None:
            self.shown = np.zeros(scores.shape[1], bool)
        mixing = np.random.default_rng(0).permutation(scores.shape[1])
        scores, relevant = np.where(np.isnan(scores), -np.inf, scores)[:, mixing], relevant[:, mixing]
        best = _best(scores, min(self.k, scores.shape[1]))
        ranked = np.isfinite(np.take_along_axis(scores, best, axis=1))
        self.shown[mixing[best[ranked]]] = True
        counts = relevant.sum(axis=1)
        rows = counts > 0
        hits = np.take_along_axis(relevant, best, axis=1)[rows] & ranked[rows]
        self.users += int(rows.sum())
        self.sums += self._of(hits, counts[rows], scores[rows], relevant[rows])

    def _of(self, hits: np.ndarray, counts: np.ndarray, scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
        found, places = hits.sum(axis=1), np.arange(1, hits.shape[1] + 1)
        gains = 1 / np.log2(1 + places)
        possible = np.minimum(counts, len(places))
        ideal = np.cumsum(gains)[possible - 1]
        precisions = (hits * np.cumsum(hits, axis=1) / places).sum(axis=1)
        each = (found / self.k, found / counts, hits @ gains / ideal, precisions / possible,
                _reciprocals(scores, relevant), found > 0)  # fmt: skip
        return np.array([values.sum() for values in each], float)

    def merge(self, other: Any) -> None:
        """Take in other users."""
        self.users += other.users
        self.sums += other.sums
        if other.shown is not None:
            self.shown = other.shown if self.shown is None else self.shown | other.shown

    def value(self) -> dict[str, float]:
        means = self.sums / max(1, self.users)
        coverage = float(self.shown.mean()) if self.shown is not None else 0.0
        return {f"{name}@{self.k}": float(v) for name, v in zip(NAMES, (*means, coverage))}


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Where the k largest of each row are (B, k), the largest first, of equal ones those that come first."""
    least = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    above, equal = scores > least, scores == least
    chosen = above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= k - above.sum(axis=1, keepdims=True)))
    best = np.nonzero(chosen)[1].reshape(-1, k)
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def _reciprocals(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """1 / the place of each row's first relevant item, of equal scores the first ones first; 0 where none is ranked."""
    wanted = np.where(relevant, scores, -np.inf)
    first = wanted.argmax(axis=1)[:, None]
    best = np.take_along_axis(wanted, first, axis=1)
    before = (scores > best) | ((scores == best) & (np.arange(scores.shape[1]) < first))
    return np.where(np.isfinite(best[:, 0]), 1 / (1 + before.sum(axis=1)), 0)
