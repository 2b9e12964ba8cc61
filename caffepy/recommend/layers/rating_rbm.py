"""RatingRBM: ratings as visible units of a restricted Boltzmann machine."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.recommend.boltzmann import Cases, Weights, gradient, means
from caffepy.recommend.layers.model import RatingModel, Values

_COUNT = len(Weights._fields)


@register("RatingRBM")
class RatingRBM(RatingModel):
    """A conditional RBM, trained by contrastive divergence; y is the rating that it expects.

    `cases: ITEM`: a case is an item, its visible units are the users who have rated it; USER the other way round.
    Parameters of I units, R grades and H hidden units: w (I, R, H), d (I, H), b (I, R) and (H,); their momenta;
    their means over the epochs from `average_from` on, which predict as soon as there are any; their number (1,).
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.rating_rbm_param
        if p.batch_size < 1 or p.num_hidden < 1:
            raise ConfigError(f"batch_size and num_hidden must be at least 1, got {p.batch_size} and {p.num_hidden}")
        super().setup(bottom, top)

    @cached_property
    def cases(self) -> Cases:
        p = self.param.rating_rbm_param
        return Cases(p, self.history if p.cases == p.USER else self.history.transposed)

    def shapes(self) -> list[tuple[int, ...]]:
        units, states, h = self.cases.history.num_items, self.cases.states, self.param.rating_rbm_param.num_hidden
        return [(units, states, h), (units, h), (units, states), (h,)] * 3 + [(1,)]

    def begin(self, values: Values, random: np.random.Generator) -> None:
        p = self.param.rating_rbm_param
        values[0][...] = random.standard_normal(values[0].shape, np.float32) * np.float32(p.init_std)
        values[2][...] = self.cases.biases(p.pseudo_counts)

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        p = self.param.rating_rbm_param
        weights, momenta, averages = (Weights(*values[i : i + _COUNT]) for i in range(0, 3 * _COUNT, _COUNT))
        slower = 1 + epoch / p.slow_down if p.slow_down > 0 else 1
        rates = [r / slower for r in (p.learning_rate, p.learning_rate_d, p.learning_rate_bias, p.learning_rate_bias)]
        cases = random.permutation(np.flatnonzero(self.cases.history.user_counts))
        for chosen in np.array_split(cases, max(1, len(cases) // p.batch_size)):
            ascent = gradient(p, self.cases, weights, chosen, random)
            for i, (w, m, g, rate) in enumerate(zip(weights, momenta, ascent, rates)):
                m *= np.float32(p.momentum)
                m += np.float32(rate) * (g - np.float32(p.decay if i < 2 else 0) * w)
                w += m
        if epoch >= p.average_from:
            values[-1][0] += 1
            for mean, w in zip(averages, weights):
                mean += (w - mean) / values[-1][0]

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        p = self.param.rating_rbm_param
        first = 2 * _COUNT if values[-1][0] else 0
        weights = Weights(*values[first : first + _COUNT])
        pair = (user, item) if p.cases == p.USER else (item, user)
        return means(p, self.cases, weights, *pair)
