"""Baseline: how generous a user is, how liked an item."""

from __future__ import annotations

import numpy as np

from caffepy.net.layer import register
from caffepy.recommend import baselines
from caffepy.recommend.layers.model import RatingModel, Values


@register("Baseline")
class Baseline(RatingModel):
    """y = mean + b[user] + b[item], fitted by `baseline_param.method`: ALS, SGD, or MEAN for the mean alone.

    Parameters: b of users (U,), b of items (I,), the mean (1,).
    """

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.history.num_users,), (self.history.num_items,), (1,)]

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        b_user, b_item, mean = values
        mean[0] = self.history.mean
        baselines.fit(self.param.baseline_param, self.history, b_user, b_item)

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        b_user, b_item, mean = values
        return mean[0] + b_user[user] + b_item[item]
