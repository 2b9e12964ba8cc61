"""Factors: SVD, SVD++ and time-aware SVD++ of ratings."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.recommend.factors import Factors, cosines
from caffepy.recommend.implicit import SvdPlusPlus
from caffepy.recommend.layers.model import RatingModel, Values
from caffepy.recommend.times import Clock, Times


@register("Factors")
class RatingFactors(RatingModel):
    """y = mean + b[u] + b[i] + p[u] q[i], fitted by stochastic gradient descent as `factors_param` says.

    `biased: false`: p[u] q[i] alone. `implicit`: p[u] + sum of y[j] over the n items j that u has rated / sqrt(n)
    takes the place of p[u] (SVD++). `temporal` besides: a third bottom is the day (of a user alone it is the last one
    that there are ratings of), and the biases have bins of the item, a slope of the user and effects of single days.
    Parameters: b (U,), b (I,), p (U, K), q (I, K); y (I, K); bins (I, B), slopes (U,), days (D,) of all days on which
    a user has rated.
    """

    num_bottom = (1, 3)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.factors_param
        if p.num_factors < 1 or p.bins < 1:
            raise ConfigError(f"num_factors and bins must be at least 1, got {p.num_factors} and {p.bins}")
        if p.temporal and not p.implicit:
            raise ConfigError("temporal is for SVD++", hint="Set implicit: true, too.")
        if len(bottom) > 1 and p.temporal != (len(bottom) == 3):
            raise ConfigError(
                f"a model {'with' if p.temporal else 'without'} time takes {2 + p.temporal} bottoms, user, item"
                f"{' and day' if p.temporal else ''}"
            )
        super().setup(bottom, top)

    @cached_property
    def clock(self) -> Clock:
        return Clock(self.param.factors_param, self.history)

    def shapes(self) -> list[tuple[int, ...]]:
        p, users, items = self.param.factors_param, self.history.num_users, self.history.num_items
        shapes: list[tuple[int, ...]] = [(users,), (items,), (users, p.num_factors), (items, p.num_factors)]
        if p.implicit:
            shapes.append((items, p.num_factors))
        if p.temporal:
            shapes += [(items, p.bins), (users,), (len(self.clock.days),)]
        return shapes

    def begin(self, values: Values, random: np.random.Generator) -> None:
        p = self.param.factors_param
        for value in values[2:5]:
            value[...] = random.standard_normal(value.shape, np.float32) * np.float32(p.init_std)

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        self._model(values).learn(self.param.factors_param, self.history, epoch, random)

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        model = self._model(values)
        if isinstance(model, SvdPlusPlus):
            day = more[0] if more else np.full(len(user), self.clock.last) if model.times else None
            return model.predict(self.history, user, item, day)
        return model.predict(self.param.factors_param, self.history, user, item)

    def fold_in(self, values: Values, items: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """With the p that fits the ratings best, by least squares as `reg` shrinks them; q stays."""
        p, h, (b_item, q) = self.param.factors_param, self.history, (values[1], values[3])
        b_item, mean = (b_item, h.mean) if p.biased else (np.zeros_like(b_item), 0.0)
        rest = ratings - mean - b_item[items]
        known = np.concatenate([np.ones((len(items), 1)), q[items]], axis=1) if p.biased else q[items]
        square = known.T @ known + p.reg * len(items) * np.eye(known.shape[1]) + 1e-6 * np.eye(known.shape[1])
        solved = np.linalg.solve(square, known.T @ rest)
        bias, taste = (solved[0], solved[1:]) if p.biased else (0.0, solved)
        return mean + bias + b_item + q @ taste

    def alike(self, values: Values, item: np.ndarray) -> np.ndarray:
        """The cosines of q."""
        return cosines(values[3], item) * (self.history.item_counts > 0)

    def _model(self, values: Values) -> Factors | SvdPlusPlus:
        explicit = Factors(*values[:4])
        if not self.param.factors_param.implicit:
            return explicit
        return SvdPlusPlus(explicit, values[4], Times(self.clock, *values[5:]) if values[5:] else None)
