"""SVD by stochastic gradient descent: mean + b[u] + b[i] + p[u] q[i] (Koren, Bell and Volinsky 2009)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from caffepy.proto.caffe_pb2 import FactorsParameter
from caffepy.recommend.batches import Rounds, mixed, pieces
from caffepy.recommend.history import History

PIECE = 64
"""Ratings of a user that may be taken together."""


class Rates(NamedTuple):
    """Of a pass: learning rate, and the decay of what a rating touches."""

    rate: np.float32
    factors: np.float32
    biases: np.float32
    implicit: np.float32


def rates(p: FactorsParameter, epoch: int) -> Rates:
    reg_bias, reg_implicit = (p.reg if reg < 0 else reg for reg in (p.reg_bias, p.reg_implicit))
    return Rates(*map(np.float32, (p.learning_rate * p.gamma**epoch, p.reg, reg_bias, reg_implicit)))


class Factors(NamedTuple):
    """Biases (U,) and (I,), factors (U, K) and (I, K)."""

    b_user: np.ndarray
    b_item: np.ndarray
    p: np.ndarray
    q: np.ndarray

    def learn(self, p: FactorsParameter, history: History, epoch: int, random: np.random.Generator) -> None:
        """One pass, whose batches' errors are taken before anything moves."""
        r = rates(p, epoch)
        for rows in mixed(history, p.batch_size, self._piece(r), random):
            self._step(r, p.biased, history, rows)

    def _piece(self, r: Rates) -> int:
        """How many ratings may move a user at once, without a step beyond where they pull."""
        longest = float(np.einsum("nk,nk->n", self.q, self.q).max(initial=0))
        return max(1, min(PIECE, int(1 / max(float(r.rate) * longest, 1e-9))))

    def _step(self, r: Rates, biased: bool, history: History, rows: np.ndarray) -> None:
        user, item = history.user[rows], history.item[rows]
        p, q = self.p[user], self.q[item]
        error = history.rating[rows] - np.einsum("nk,nk->n", p, q)
        if biased:
            error -= np.float32(history.mean) + self.b_user[user] + self.b_item[item]
        # A prediction outside the scale is wrong by no more than the scale: without it one bad step can begin a flight.
        error = np.clip(error, history.low - history.high, history.high - history.low)
        if biased:
            np.add.at(self.b_user, user, r.rate * (error - r.biases * self.b_user[user]))
            np.add.at(self.b_item, item, r.rate * (error - r.biases * self.b_item[item]))
        step, decay = r.rate * error, r.rate * r.factors
        cuts = pieces(user).tolist()
        for a, b in pairwise(cuts):
            row = self.p[user[a]]
            row *= 1 - decay * (b - a)
            row += step[a:b] @ q[a:b]
        p *= step[:, None]
        q *= decay
        p -= q
        Rounds(item).add(self.q, p)

    def predict(self, p: FactorsParameter, history: History, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """A user or an item without ratings has no factors."""
        known = (history.user_counts[user] > 0) & (history.item_counts[item] > 0)
        y = product(self.p, user, self.q, item) * known
        return y + history.mean + self.b_user[user] + self.b_item[item] if p.biased else y


def product(p: np.ndarray, user: np.ndarray, q: np.ndarray, item: np.ndarray) -> np.ndarray:
    """p[user] q[item] of pairs (N,), a stretch at a time."""
    out = np.empty(len(user), np.float32)
    for a in range(0, len(user), _STRETCH):
        part = slice(a, a + _STRETCH)
        np.einsum("nk,nk->n", p[user[part]], q[item[part]], out=out[part])
    return out


_STRETCH = 1 << 14
