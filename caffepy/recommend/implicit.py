"""SVD++: what a user has rated speaks, too (Koren 2008); and its biases over time (Koren 2009, "timeSVD++")."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.proto.caffe_pb2 import FactorsParameter
from caffepy.recommend.batches import pieces
from caffepy.recommend.factors import PIECE, Factors, Rates, product, rates
from caffepy.recommend.history import UserHistory
from caffepy.recommend.times import Times


class SvdPlusPlus(NamedTuple):
    """`explicit`, factors y (I, K) of items that were rated at all, and biases over time, if any."""

    explicit: Factors
    y: np.ndarray
    times: Times | None

    def learn(self, p: FactorsParameter, history: UserHistory, epoch: int, random: np.random.Generator) -> None:
        """One pass, a piece of a user after the other."""
        r = rates(p, epoch)
        for users, rows, ends in pieces(history, PIECE, random):
            for user, a, b in zip(users, [0, *ends], ends):
                self._step(p, r, history, user, rows[a:b])

    def _step(self, p: FactorsParameter, r: Rates, history: UserHistory, user: int, rows: np.ndarray) -> None:
        b_user, b_item, factors, items = self.explicit
        item, count = history.item[rows], len(rows)
        rated = history.item[history.starts[user] : history.starts[user + 1]]
        norm = np.float32(len(rated) ** -0.5)
        y, q = self.y[rated], items[item]
        taste = factors[user] + norm * _sum(y)
        error = history.rating[rows] - (np.float32(history.mean) + b_user[user] + b_item[item] + q @ taste)
        if self.times:
            error -= self.times.of_rows(rows)
            self.times.step(p, r, rows, error)
        b_user[user] += r.rate * (error.sum() - count * r.biases * b_user[user])
        b_item[item] += r.rate * (error - r.biases * b_item[item])
        pull = r.rate * (error @ q)
        items[item] = q * (1 - r.rate * r.factors) + np.multiply.outer(r.rate * error, taste)
        factors[user] += pull - r.rate * r.factors * count * factors[user]
        y *= 1 - r.rate * r.implicit * count
        y += norm * pull
        self.y[rated] = y

    def tastes(self, history: UserHistory) -> np.ndarray:
        """p[u] + sum of y over what the user has rated / sqrt of their number, of all users (U, K)."""
        out = self.explicit.p.copy()
        for user in np.flatnonzero(history.user_counts):
            rated = history.item[history.starts[user] : history.starts[user + 1]]
            out[user] += np.float32(len(rated) ** -0.5) * _sum(self.y[rated])
        return out

    def predict(self, history: UserHistory, user: np.ndarray, item: np.ndarray, day: np.ndarray | None) -> np.ndarray:
        known = (history.user_counts[user] > 0) & (history.item_counts[item] > 0)
        y = product(self.tastes(history), user, self.explicit.q, item) * known
        y += np.float32(history.mean) + self.explicit.b_user[user] + self.explicit.b_item[item]
        return y if self.times is None or day is None else y + self.times.of(user, item, day)


def _sum(rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows), np.float32) @ rows
