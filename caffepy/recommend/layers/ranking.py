"""Ranking: how good the ranking of all items is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.recommend.history import open_history
from caffepy.recommend.metrics import NAMES, Rankings


class RankingMeter:
    """Rankings of all batches of a test, by name."""

    def __init__(self, layer: Ranking):
        self.layer = layer
        self.users: set[int] = set()
        """Counted: a test that goes on into the table's next round counts nobody twice."""
        self.rankings = Rankings(layer.param.ranking_param.k)

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        scores, relevant = self.layer.ranked([blob.host() for blob in bottom])
        users, rows = np.unique(bottom[1].host().reshape(-1).astype(np.int64), return_index=True)
        new = np.sort(rows[[user not in self.users for user in users.tolist()]])
        self.users.update(users.tolist())
        if len(new):
            self.rankings.add(scores[new], relevant[new])

    def merge(self, other: RankingMeter) -> None:
        self.rankings.merge(other.rankings)
        self.users |= other.users

    def value(self) -> dict[str, float]:
        return self.rankings.value()


@register("Ranking")
class Ranking(Layer):
    """Precision, recall, NDCG, MAP, MRR, hit rate and coverage at `ranking_param.k`, as one top (7,).

    Bottoms: scores of all items (B, I), or as many in this order, the users (B,), their items of the test (B, L) with
    mask (B, L) and, where only ratings from `relevant` on are hits, the ratings (B, L). What a user has in
    `ratings_param.source` is not ranked (`exclude_seen`). A test takes all users of all batches together, each once.
    """

    num_bottom = (4, 5)
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.param.ranking_param.k < 1:
            raise ConfigError("k must be at least 1", hint="Set ranking_param { k: 10 }.")
        self.history = open_history(self.param.ratings_param)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        expected = (bottom[1].count, self.history.num_items)
        if bottom[0].count != expected[0] * expected[1]:
            raise ShapeError(
                f"{self.bottom_name(0)} has shape {bottom[0].shape}, the scores of all items for each user "
                f"would be {expected}"
            )
        top[0].reshape((len(NAMES),))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        rankings = Rankings(self.param.ranking_param.k)
        rankings.add(*self.ranked([blob.host() for blob in bottom]))
        top[0].data[...] = self.engine.asarray(np.array(list(rankings.value().values()), np.float32))

    def ranked(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Scores of what is ranked, and what is relevant, (B, I) both."""
        scores, users, items, mask, *ratings = arrays
        p, h = self.param.ranking_param, self.history
        scores = scores.reshape(-1, h.num_items)
        hit = mask > 0 if not ratings else (mask > 0) & (ratings[0] >= p.relevant)
        relevant = np.zeros(scores.shape, bool)
        rows, places = np.nonzero(hit)
        relevant[rows, items[rows, places].astype(np.int64)] = True
        if p.exclude_seen:
            scores = scores.copy()
            for row, user in enumerate(users.reshape(-1).astype(np.int64)):
                scores[row, h.item[h.starts[user] : h.starts[user + 1]]] = -np.inf
        return scores, relevant

    def meter(self, top_index: int) -> Any:
        return RankingMeter(self)
