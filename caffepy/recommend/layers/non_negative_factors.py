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
        h, (p, q) = self.history, values
        guess = product(p, h.user, q, h.item)
        of_users = self._factors(p, q, h.user, h.item, h.rating, guess)
        order = sorted_by(h.item)
        of_items = self._factors(q, p, h.item[order], h.user[order], h.rating[order], guess[order])
        for table, (rows, factors) in ((p, of_users), (q, of_items)):  # both seen from where the pass began
            table[rows] *= factors

    def _factors(
        self, p: np.ndarray, q: np.ndarray, user: np.ndarray, item: np.ndarray, rating: np.ndarray, guess: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows of p whose index `user`, sorted, has ratings, and what they are multiplied by."""
        starts = np.concatenate([[0], np.flatnonzero(np.diff(user)) + 1])
        other = q[item]
        above, below = (np.add.reduceat(x[:, None] * other, starts, axis=0) for x in (rating, guess))
        rows, counts = user[starts], np.diff(np.append(starts, len(user)))
        reg = np.float32(self.param.factors_param.reg)
        return rows, above / (below + reg * counts[:, None] * p[rows] + np.float32(1e-9))

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        h = self.history
        known = (h.user_counts[user] > 0) & (h.item_counts[item] > 0)
        return np.where(known, product(values[0], user, values[1], item), np.float32(h.mean))
