"""Neighbors: what similar items were given, or similar users gave."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.recommend import baselines
from caffepy.recommend.history import UserHistory
from caffepy.recommend.layers.model import RatingModel, Values
from caffepy.recommend.similarity import nearest


@register("Neighbors")
class Neighbors(RatingModel):
    """y = c[i] + sum of s[i, j] (r[u, j] - c[j]) / sum of s[i, j], over the k items j most similar to i among u's.

    s as `neighbors_param.similarity` says, positive ones alone; c by `centre`: nothing, means, or the baseline of u
    and the item. `by: USER`: users and items change places. With fewer than `min_k` such j it is the baseline or mean;
    with centre NONE, and for who has no ratings, the mean of all. One pass over the ratings fills the parameters: the
    `neighbors` most similar ones of each item (I, n) and their similarities (I, n), biases of users and items.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.neighbors_param
        if p.k < 1:
            raise ConfigError("k must be at least 1", hint="Set neighbors_param { k: 40 }.")
        super().setup(bottom, top)

    @cached_property
    def seen(self) -> UserHistory:
        """The history whose `item` is what has neighbours."""
        p = self.param.neighbors_param
        return self.history if p.by == p.ITEM else self.history.transposed

    def shapes(self) -> list[tuple[int, ...]]:
        p, seen = self.param.neighbors_param, self.seen
        most = min(p.neighbors or seen.num_items, seen.num_items)
        return [(seen.num_items, most)] * 2 + [(self.history.num_users,), (self.history.num_items,)]

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        p, seen = self.param.neighbors_param, self.seen
        indices, weights, b_user, b_item = values
        self._fit_baseline(b_user, b_item)
        compared = seen.rating
        if p.similarity == p.PEARSON_BASELINE:
            compared = compared - self._baseline(values, *self._as_pair(seen.user, seen.item))
        weights[...] = 0
        for items, best, found in nearest(p, seen, compared, indices.shape[1]):
            indices[items, : best.shape[1]], weights[items, : best.shape[1]] = best, found

    def _fit_baseline(self, b_user: np.ndarray, b_item: np.ndarray) -> None:
        p = self.param.neighbors_param
        if p.similarity != p.PEARSON_BASELINE and p.centre != p.BASELINE:
            return
        b_user[...], b_item[...] = 0, 0
        for _ in range(p.baseline_passes):
            baselines.fit(p.baseline, self.history, b_user, b_item)

    def _as_pair(self, user: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Users and items, from those of `seen` or back."""
        return (user, item) if self.seen is self.history else (item, user)

    def _baseline(self, values: Values, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return np.float32(self.history.mean) + values[2][user] + values[3][item]

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        out = self._otherwise(values, user, item)
        centres, rest = self._centres(values), np.zeros(self.seen.num_items, np.float32)
        is_known = np.zeros(self.seen.num_items, bool)
        users, items = self._as_pair(user, item)
        order = np.argsort(users, kind="stable")
        for pairs in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
            if len(pairs):
                one, asked = users[pairs[0]], items[pairs]
                rows = slice(*self.seen.starts[one : one + 2])
                rated = self.seen.item[rows]
                rest[rated], is_known[rated] = self.seen.rating[rows] - centres(one, rated), True
                found, enough = self._weighted(values, asked, rest, is_known)
                known = enough & (self.seen.item_counts[asked] > 0)
                out[pairs] = np.where(known, centres(one, asked) + found, out[pairs])
                is_known[rated] = False
        return out

    def fold_in(self, values: Values, items: np.ndarray, ratings: np.ndarray) -> np.ndarray | None:
        p, h = self.param.neighbors_param, self.history
        if p.by != p.ITEM:
            return None
        rest, is_known = np.zeros(h.num_items, np.float32), np.zeros(h.num_items, bool)
        b_item = h.mean + values[3] if p.centre == p.BASELINE else self._centres(values)(0, np.arange(h.num_items))
        bias = (ratings - b_item[items]).sum() / (len(items) + p.baseline.reg_user) if p.centre == p.BASELINE else 0.0
        rest[items], is_known[items] = ratings - b_item[items] - bias, True
        found, enough = self._weighted(values, np.arange(h.num_items), rest, is_known)
        return np.where(enough, b_item + bias + found, h.mean + values[3] + bias)

    def alike(self, values: Values, item: np.ndarray) -> np.ndarray | None:
        if self.param.neighbors_param.by != self.param.neighbors_param.ITEM:
            return None
        out = np.zeros((len(item), self.history.num_items), np.float32)
        np.put_along_axis(out, values[0][item].astype(np.int64)[:, ::-1], values[1][item][:, ::-1], axis=1)
        return out

    def _weighted(
        self, values: Values, item: np.ndarray, rest: np.ndarray, is_known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of items (n,): the weighted mean of `rest` over the k nearest known ones, and whether there are `min_k`."""
        p = self.param.neighbors_param
        indices, weights = values[0][item].astype(np.int64), values[1][item]
        known = is_known[indices] & (weights > 0)
        known &= np.cumsum(known, axis=1, dtype=np.int32) <= p.k
        weights = weights * known
        total = weights.sum(axis=1)
        enough = (known.sum(axis=1) >= p.min_k) & (total > 0)
        return np.einsum("nk,nk->n", weights, rest[indices]) / np.where(total > 0, total, 1), enough

    def _centres(self, values: Values) -> Callable[[Any, np.ndarray], np.ndarray]:
        """A function of a user of `seen` and items of it: what their ratings are centred on."""
        p, seen = self.param.neighbors_param, self.seen
        if p.centre == p.BASELINE:
            return lambda user, items: self._baseline(values, *self._as_pair(np.broadcast_to(user, items.shape), items))
        if p.centre == p.MEANS:
            sums = np.bincount(seen.item, seen.rating, minlength=seen.num_items)
            means = (sums / np.maximum(seen.item_counts, 1)).astype(np.float32)
            return lambda user, items: means[items]
        return lambda user, items: np.zeros(len(items), np.float32)

    def _otherwise(self, values: Values, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """What is predicted without neighbours."""
        p = self.param.neighbors_param
        if p.centre == p.BASELINE:
            return self._baseline(values, user, item)
        out = np.full(len(user), self.history.mean, np.float32)
        if p.centre == p.MEANS:
            seen_user, seen_item = self._as_pair(user, item)
            known = (self.seen.item_counts[seen_item] > 0) & (self.seen.user_counts[seen_user] > 0)
            out[known] = self._centres(values)(None, seen_item[known])
        return out
