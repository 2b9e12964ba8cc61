"""SlopeOne: how much better an item is liked than another, on the average (Lemire and Maclachlan 2005)."""

from __future__ import annotations

import numpy as np

from caffepy.net.layer import register
from caffepy.recommend.dense import blocks, raters
from caffepy.recommend.layers.model import RatingModel, Values

_TILE = 1 << 22
"""Differences held at once."""


@register("SlopeOne")
class SlopeOne(RatingModel):
    """y = mean of u + mean over the items j of u with common raters of dev[i, j], the mean of r[i] - r[j] over these.

    The deviations are computed where they are asked for, from the ratings; the parameters are the means of users (U,),
    which one pass fills. Who has no ratings gets the mean of all.
    """

    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.history.num_users,)]

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        h = self.history
        sums = np.bincount(h.user, h.rating, minlength=h.num_users)
        values[0][...] = np.where(h.user_counts > 0, sums / np.maximum(h.user_counts, 1), h.mean)

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        h = self.history
        out = values[0][user].astype(np.float32)
        items, at = np.unique(item, return_inverse=True)
        for a in range(0, len(items), step := max(1, _TILE // h.num_items)):
            tile = items[a : a + step]
            common, differences = np.zeros((2, len(tile), h.num_items), np.float32)
            for given, rated in blocks(h, raters(h, tile), h.rating):
                g, r = given[:, tile].T, rated[:, tile].T
                common += g @ given
                differences += r @ given - g @ rated
            deviation, has = differences / np.maximum(common, 1), common > 0
            pairs = np.flatnonzero((at >= a) & (at < a + len(tile)))
            self._add(out, pairs, user, at - a, deviation, has)
        unknown = (h.user_counts[user] == 0) | (h.item_counts[item] == 0)
        out[unknown] = h.mean
        return out

    def _add(self, out, pairs, user, at, deviation, has) -> None:
        """Add to each pair the mean deviation over the items of its user."""
        h = self.history
        for pair in pairs:
            theirs = h.item[h.starts[user[pair]] : h.starts[user[pair] + 1]]
            shared = has[at[pair], theirs]
            if shared.any():
                out[pair] += deviation[at[pair], theirs][shared].mean()
