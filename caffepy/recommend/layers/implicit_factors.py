"""ImplicitFactors: clicks by weighted alternating least squares (Hu, Koren and Volinsky 2008; "WRMF", "ALS")."""

from __future__ import annotations

import numpy as np

from caffepy.net.layer import register
from caffepy.recommend.factors import cosines, product
from caffepy.recommend.history import UserHistory
from caffepy.recommend.layers.model import RatingModel, Values

_TILE = 1 << 22
"""Numbers of the matrices that are solved at once."""


@register("ImplicitFactors")
class ImplicitFactors(RatingModel):
    """y = p[u] q[i], near 1 for what u has clicked and near 0 for all else, the former with more weight.

    Least squares over all pairs, of weight 1 + `factors_param.alpha` * rating for clicks and 1 for others, plus `reg`
    times the squared factors; users and items by turns. y is a score, no rating. Parameters: p (U, K), q (I, K).
    """

    clips = False

    def shapes(self) -> list[tuple[int, ...]]:
        k = self.param.factors_param.num_factors
        return [(self.history.num_users, k), (self.history.num_items, k)]

    def begin(self, values: Values, random: np.random.Generator) -> None:
        std = np.float32(self.param.factors_param.init_std)
        for value in values:
            value[...] = random.standard_normal(value.shape, np.float32) * std

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        self._solve(self.history, values[0], values[1])
        self._solve(self.history.transposed, values[1], values[0])

    def _solve(self, h: UserHistory, p: np.ndarray, q: np.ndarray) -> None:
        """Set all of p to the best for q."""
        param, k = self.param.factors_param, q.shape[1]
        common = q.T @ q + np.float32(param.reg) * np.eye(k, dtype=np.float32)
        p[h.user_counts == 0] = 0
        users, step = np.flatnonzero(h.user_counts), max(1, _TILE // (k * k))
        for a in range(0, len(users), step):
            part = users[a : a + step]
            square, right = np.empty((len(part), k, k), np.float32), np.empty((len(part), k), np.float32)
            for i, user in enumerate(part):
                rows = slice(h.starts[user], h.starts[user + 1])
                clicked, extra = q[h.item[rows]], np.float32(param.alpha) * h.rating[rows]
                square[i] = common + (clicked * extra[:, None]).T @ clicked
                right[i] = (1 + extra) @ clicked
            p[part] = np.linalg.solve(square, right[:, :, None])[:, :, 0]

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        return product(values[0], user, values[1], item)

    def alike(self, values: Values, item: np.ndarray) -> np.ndarray:
        """The cosines of q."""
        return cosines(values[1], item)

    def fold_in(self, values: Values, items: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        param, q = self.param.factors_param, values[1]
        clicked, extra = q[items], param.alpha * ratings
        square = q.T @ q + param.reg * np.eye(q.shape[1]) + (clicked * extra[:, None]).T @ clicked
        return q @ np.linalg.solve(square, (1 + extra) @ clicked)
