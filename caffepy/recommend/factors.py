"""SVD by stochastic gradient descent: mean + b[u] + b[i] + p[u] q[i] (Koren, Bell and Volinsky 2009)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.proto.caffe_pb2 import FactorsParameter
from caffepy.recommend.batches import pieces
from caffepy.recommend.history import UserHistory

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

    def learn(self, p: FactorsParameter, history: UserHistory, epoch: int, random: np.random.Generator) -> None:
        """One pass, a piece of a user after the other."""
        r = rates(p, epoch)
        mean = np.float32(history.mean if p.biased else 0)
        of_users, of_items = self._joined(p.biased)
        step = _Step(r, of_users.shape[1], p.biased, history.high - history.low)
        for users, rows, ends in pieces(history, self._piece(r), random):
            item, rest = history.item[rows], history.rating[rows] - mean
            for user, a, b in zip(users, [0, *ends], ends):
                step(of_users[user], of_items, item[a:b], rest[a:b])
        self._part(of_users, of_items, p.biased)

    def _piece(self, r: Rates) -> int:
        """How many ratings may move a user at once, without a step beyond where they pull."""
        longest = float(np.einsum("nk,nk->n", self.q, self.q).max(initial=0))
        return max(1, min(PIECE, int(1 / max(float(r.rate) * longest, 1e-9))))

    def _joined(self, biased: bool) -> tuple[np.ndarray, np.ndarray]:
        """Factors and biases such that a product of two rows is all of a prediction: p, b, 1 and q, 1, b."""
        if not biased:
            return self.p, self.q
        of_users, of_items = np.ones((len(self.p), 1), np.float32), np.ones((len(self.q), 1), np.float32)
        return np.hstack([self.p, self.b_user[:, None], of_users]), np.hstack([self.q, of_items, self.b_item[:, None]])

    def _part(self, users: np.ndarray, items: np.ndarray, biased: bool) -> None:
        """Take back what `_joined` gave."""
        if biased:
            self.p[...], self.b_user[...] = users[:, :-2], users[:, -2]
            self.q[...], self.b_item[...] = items[:, :-2], items[:, -1]

    def predict(self, p: FactorsParameter, history: UserHistory, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """A user or an item without ratings has no factors."""
        known = (history.user_counts[user] > 0) & (history.item_counts[item] > 0)
        y = product(self.p, user, self.q, item) * known
        return y + history.mean + self.b_user[user] + self.b_item[item] if p.biased else y


class _Step:
    """One step for a piece: the ratings of a user and of different items, whose errors are taken together."""

    def __init__(self, r: Rates, width: int, biased: bool, widest: float):
        self.rate, self.widest = r.rate, np.float32(widest)
        self.user_moves, self.item_moves = np.ones((2, width), np.float32)
        decay = np.full(width, r.rate * r.factors)
        if biased:
            self.user_moves[-1] = self.item_moves[-2] = 0
            decay[-2:] = r.rate * r.biases
        self.user_decay, self.item_keep = decay * self.user_moves, 1 - decay * self.item_moves
        n, rate = np.arange(1, PIECE + 1), float(r.rate)
        # A user's bias would go n times as far as one rating lets it, and past them all: it goes as far as it would
        # one after the other, each of which leaves 1 - rate of the error.
        self.damping = [1.0, *((1 - (1 - rate) ** n) / (n * rate))] if biased and rate else None
        self._outer = np.empty((PIECE, width), np.float32)

    def __call__(self, user: np.ndarray, items: np.ndarray, index: np.ndarray, rest: np.ndarray) -> None:
        q, count = items.take(index, axis=0), len(index)
        error = rest - q.dot(user)
        # A prediction outside the scale is wrong by no more than the scale: without it one bad step can begin a flight.
        np.minimum(error, self.widest, out=error)
        np.maximum(error, -self.widest, out=error)
        error *= self.rate
        pull = error.dot(q)
        pull *= self.user_moves
        if self.damping:
            pull[-2] *= self.damping[count]
        outer = np.multiply(error[:, None], user * self.item_moves, out=self._outer[:count])
        q *= self.item_keep
        q += outer
        items[index] = q
        user *= 1 - count * self.user_decay
        user += pull


def product(p: np.ndarray, user: np.ndarray, q: np.ndarray, item: np.ndarray) -> np.ndarray:
    """p[user] q[item] of pairs (N,), a stretch at a time."""
    out = np.empty(len(user), np.float32)
    for a in range(0, len(user), _STRETCH):
        part = slice(a, a + _STRETCH)
        np.einsum("nk,nk->n", p[user[part]], q[item[part]], out=out[part])
    return out


def cosines(q: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Of some rows of q (I, K), the items (n,), and all: (n, I)."""
    q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-9)
    return q[item] @ q.T


_STRETCH = 1 << 14
