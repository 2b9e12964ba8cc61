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
    coverage: the share of all items that are among anybody's k.
    """

    def __init__(self, k: int):
        self.k, self.users = k, 0
        self.sums = np.zeros(len(NAMES) - 1)
        self.shown: np.ndarray | None = None

    def add(self, scores: np.ndarray, relevant: np.ndarray) -> None:
        """Users by items (B, I): scores, -inf for items that are not to be ranked; which are relevant."""
        if self.shown is None:
            self.shown = np.zeros(scores.shape[1], bool)
        k = min(self.k, scores.shape[1])
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        ranked = np.isfinite(np.take_along_axis(scores, best, axis=1))
        self.shown[best[ranked]] = True
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
        first = np.where(relevant, scores, -np.inf).max(axis=1, initial=-np.inf)
        place = 1 + (scores > first[:, None]).sum(axis=1)
        reciprocal = np.where(np.isfinite(first), 1 / place, 0)
        each = (found / self.k, found / counts, hits @ gains / ideal, precisions / possible, reciprocal, found > 0)
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
