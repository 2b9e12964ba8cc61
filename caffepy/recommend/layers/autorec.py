"""AutoRec: an autoencoder that fills the gaps in a row of ratings (Sedhain et al. 2015)."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from caffepy.net.layer import register
from caffepy.proto.caffe_pb2 import RatingRBMParameter
from caffepy.recommend.boltzmann import Cases, sigmoid
from caffepy.recommend.layers.model import RatingModel, Values

_BETAS, _EPS = (0.9, 0.999), np.float32(1e-8)


@register("AutoRec")
class AutoRec(RatingModel):
    """y = c + w sigmoid(v x + b), x the standardised ratings of an item (or user), errors counted where there are any.

    Trained by Adam. Parameters of I units and H hidden ones: v (I, H), w (I, H), b (H,), c (I,); both moments of each;
    the steps taken (1,).
    """

    @cached_property
    def cases(self) -> Cases:
        by_user = self.param.autorec_param.cases == RatingRBMParameter.USER
        gaussian = RatingRBMParameter(units=RatingRBMParameter.GAUSSIAN)
        return Cases(gaussian, self.history if by_user else self.history.transposed)

    def shapes(self) -> list[tuple[int, ...]]:
        units, hidden = self.cases.history.num_items, self.param.autorec_param.num_hidden
        return [(units, hidden), (units, hidden), (hidden,), (units,)] * 3 + [(1,)]

    def begin(self, values: Values, random: np.random.Generator) -> None:
        for value in values[:2]:
            limit = np.sqrt(6 / sum(value.shape))
            value[...] = random.uniform(-limit, limit, value.shape)

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        p = self.param.autorec_param
        cases = random.permutation(np.flatnonzero(self.cases.history.user_counts))
        for chosen in np.array_split(cases, max(1, len(cases) // max(1, p.batch_size))):
            values[-1][0] += 1
            t = float(values[-1][0])
            rate = np.float32(p.learning_rate * np.sqrt(1 - _BETAS[1] ** t) / (1 - _BETAS[0] ** t))
            gradients = self._gradients(values, chosen)
            for i, g in enumerate(gradients):
                w, m, s = values[i], values[4 + i], values[8 + i]
                if i < 2:
                    g += np.float32(p.decay) * w
                m += np.float32(1 - _BETAS[0]) * (g - m)
                s += np.float32(1 - _BETAS[1]) * (g * g - s)
                w -= rate * m / (np.sqrt(s) + _EPS)

    def _gradients(self, values: Values, chosen: np.ndarray) -> list[np.ndarray]:
        v, w, b, c = values[:4]
        there, states = self.cases.batch(chosen)
        x = states[:, :, 0]
        h = sigmoid(x @ v + b)
        error = (h @ w.T + c - x) * there * np.float32(1 / len(chosen))
        dh = (error @ w) * h * (1 - h)
        return [x.T @ dh, error.T @ h, dh.sum(axis=0), error.sum(axis=0)]

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        v, w, b, c = values[:4]
        by_user = self.param.autorec_param.cases == RatingRBMParameter.USER
        case, unit = (user, item) if by_user else (item, user)
        out = np.empty(len(case), np.float32)
        for part, (_, states), at in self.cases.of_pairs(case):
            h = sigmoid(states[:, :, 0] @ v + b)[at]
            out[part] = np.einsum("nh,nh->n", h, w[unit[part]]) + c[unit[part]]
        return np.float32(self.cases.mean) + np.float32(self.cases.deviation) * out
