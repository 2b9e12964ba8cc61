"""NonNegativeFactors: p[u] q[i] of numbers that are not negative, by multiplicative updates (Luo et al. 2014)."""

from __future__ import annotations

import numpy as np

from caffepy.net.layer import register
from caffepy.recommend.batches import sorted_by
from caffepy.recommend.factors import product
from caffepy.recommend.layers.model import RatingModel, Values


@register("NonNegativeFactors")
class NonNegativeFactors(RatingModel):
    """y = p[u] q[i], all factors at least 0: each is multiplied by the ratio of what ratings and predictions pull.

    `factors_param.num_factors`, `reg`, which is of each rating. Parameters: p (U, K), q (I, K). Who has no ratings
    gets the mean of all.
    """

    def shapes(self) -> list[tuple[int, ...]]:
        k = self.param.factors_param.num_factors
        return [(self.history.num_users, k), (self.history.num_items, k)]

    def begin(self, values: Values, random: np.random.Generator) -> None:
        for value in values:
            value[...] = random.random(value.shape, np.float32)

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        p, q = values
        h = self.history
        order = sorted_by(h.item)
        guess = product(p, h.user, q, h.item)
        up, down = (_sums(h.user, x[:, None] * q[h.item]) for x in (h.rating, guess))
        up_q, down_q = (_sums(h.item[order], (x[:, None] * p[h.user])[order]) for x in (h.rating, guess))
        reg = np.float32(self.param.factors_param.reg)
        for value, (rows, above), (_, below), counts in (
            (p, up, down, h.user_counts),
            (q, up_q, down_q, h.item_counts),
        ):
            value[rows] *= above / (below + reg * counts[rows, None] * value[rows] + np.float32(1e-9))

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        h = self.history
        known = (h.user_counts[user] > 0) & (h.item_counts[item] > 0)
        return np.where(known, product(values[0], user, values[1], item), np.float32(h.mean))


def _sums(index: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of rows (n, K) by a sorted index: which there are, and theirs."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(index)) + 1])
    return index[starts], np.add.reduceat(rows, starts, axis=0)
