"""Classes that come equally often, however many records each has."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.data.order import Cursor, Order


class Balanced:
    """An order in which every class comes equally often: each epoch mixes, anew, as many records as there are.

    A class goes through all its records before one comes again. `records` (n,) are gone through, of classes `labels`.
    """

    def __init__(self, order: Order, records: np.ndarray, labels: np.ndarray):
        self.order, self.records, self.labels = order, records, labels
        self.length, self.shuffle, self.rank = order.length, True, order.rank
        self._made: dict[int, np.ndarray] = {}

    def advance(self, cursor: Cursor, count: int) -> tuple[list[int], Cursor]:
        """As Order's."""
        _, behind = self.order._replace(shuffle=False).advance(cursor, count)
        out = []
        for i in range(count):
            wraps, place = divmod(cursor.index + i * self.order.size + self.rank, self.length)
            out.append(int(self._epoch(cursor.epoch + wraps)[place]))
        return out, behind

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._made:
            self._made = dict(list(self._made.items())[-1:])  # a batch may span two
            self._made[epoch] = drawn(self.records, self.labels, np.random.default_rng([self.order.seed, epoch]))
        return self._made[epoch]

    def check(self, cursor: Cursor) -> None:
        """As Order's."""
        self.order.check(cursor)

    def _replace(self, **fields: Any) -> Balanced:
        return Balanced(self.order._replace(**fields), self.records, self.labels)


def drawn(records: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As many records as there are, mixed, of every class as many as of the others, give or take one."""
    classes, count = np.unique(labels), len(records)
    shares = np.full(len(classes), count // len(classes))
    shares[random.permutation(len(classes))[: count % len(classes)]] += 1
    parts = []
    for label, share in zip(classes, shares.tolist()):
        members = records[labels == label]
        rounds = [random.permutation(members) for _ in range(max(1, -(-share // len(members))))]
        parts.append(np.concatenate(rounds)[:share])
    return random.permutation(np.concatenate(parts))
