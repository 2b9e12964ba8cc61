"""A net asked about users and items: whatever its layers, its TableData is fed ids, its last output is the score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from caffepy import passes
from caffepy.errors import ConfigError
from caffepy.layers.table_data import TableData
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import BaselineParameter, NeighborsParameter, RatingsParameter
from caffepy.recommend import baselines
from caffepy.recommend.history import UserHistory, open_history
from caffepy.recommend.layers.model import RatingModel
from caffepy.recommend.similarity import pair_similarity

_PAIRS = 1 << 18
"""Asked at once."""
_OUTPUTS = ("prediction", "score")


class Reason(NamedTuple):
    """A rating of the user's that speaks for an item, and how much."""

    item: int
    rating: float
    weight: float


def _data_of(net: Net) -> TableData:
    """Raises ConfigError where the net has no such layer."""
    for layer in net.layers:
        if isinstance(layer, TableData) and {"user", "item"} <= set(layer.names):
            return layer
    raise ConfigError("the net has no TableData with the tops user and item", hint="Give the model's deploy.prototxt.")


class Scorer:
    """Scores of pairs by a net of the TEST phase with a TableData whose tops are user and item."""

    def __init__(self, net: Net):
        self.net = net
        self.data = _data_of(net)
        self.model = next((layer for layer in net.layers if isinstance(layer, RatingModel)), None)
        source = RatingsParameter(source=self.data.param.table_data_param.source)
        self.history: UserHistory = self.model.history if self.model else open_history(source)
        self.table = self.data.table
        self.output = next((name for name in _OUTPUTS if name in net.engine_blobs), net.outputs[-1])
        self._baseline: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def values(self) -> list[np.ndarray]:
        assert self.model is not None
        return [blob.host() for blob in self.model.blobs]

    def scores(self, user: np.ndarray, item: np.ndarray, day: np.ndarray | None = None) -> np.ndarray:
        """Of pairs (N,), where the model knows days on these, or else on the last one of its ratings."""
        out = np.empty(len(user), np.float32)
        timed = "day" in self.data.names
        if timed and day is None:
            day = np.full(len(user), int(self.table["day"].max()))
        for a in range(0, len(user), _PAIRS):
            part = slice(a, a + _PAIRS)
            ids = {"user": user[part], "item": item[part]}
            self.data.feed({**ids, "day": day[part]} if timed and day is not None else ids)
            passes.of(self.net).forward()
            out[part] = self.net.engine_blobs[self.output].host().reshape(-1)
        return out

    def of_all_items(self, users: np.ndarray) -> np.ndarray:
        """(B, I), beyond the ends of the scale too, so that few are alike; the baseline's for users without ratings."""
        count = self.history.num_items
        with self._unclipped():
            found = self.scores(np.repeat(users, count), np.tile(np.arange(count), len(users))).reshape(-1, count)
        cold = self.history.user_counts[users] == 0
        found[cold] = self.baseline()[0]
        return found

    @contextmanager
    def _unclipped(self) -> Iterator[None]:
        if self.model is None:
            yield
            return
        self.model.clips, before = False, self.model.clips
        try:
            yield
        finally:
            self.model.clips = before

    def on_scale(self, score: float) -> float:
        """A score as it is shown: a rating within the scale, or as it is."""
        h = self.history
        return min(max(score, h.low), h.high) if self.model and self.model.clips else score

    def baseline(self) -> tuple[np.ndarray, np.ndarray]:
        """What somebody unknown is expected to give all items (I,), and biases of users (U,)."""
        if self._baseline is None:
            h, p = self.history, BaselineParameter()
            b_user, b_item = np.zeros(h.num_users, np.float32), np.zeros(h.num_items, np.float32)
            for _ in range(10):
                baselines.fit(p, h, b_user, b_item)
            self._baseline = np.float32(h.mean) + b_item, b_user
        return self._baseline

    def fold_in(self, items: np.ndarray, ratings: np.ndarray) -> tuple[np.ndarray, bool]:
        """The scores of all items for somebody new, and whether the model gave them; else it is the baseline."""
        found = self.model.fold_in(self.values, items, ratings) if self.model else None
        if found is not None:
            return found, True
        base = self.baseline()[0]
        return base + (ratings - base[items]).sum() / (len(items) + BaselineParameter().reg_user), False

    def alike(self, item: np.ndarray) -> np.ndarray:
        """How similar all items are to these (n,), (n, I): as the model says, else by what users gave both."""
        found = self.model.alike(self.values, item) if self.model else None
        if found is None:
            rest = self.history.rating - self._expected(self.history.user, self.history.item)
            p = NeighborsParameter(similarity=NeighborsParameter.PEARSON_BASELINE)
            found = pair_similarity(p, self.history, rest, item)
        found = found.copy()
        found[np.arange(len(item)), item] = -np.inf
        return found

    def reasons(self, user: int, item: int, most: int = 3) -> list[Reason]:
        """The user's ratings that speak most for an item: similar to it, and above what was to be expected."""
        h = self.history
        rows = slice(h.starts[user], h.starts[user + 1])
        rated, ratings = h.item[rows], h.rating[rows]
        above = ratings - self._expected(np.full(len(rated), user), rated)
        weights = np.maximum(self.alike(np.array([item]))[0][rated], 0) * above
        best = np.argsort(-weights, kind="stable")[:most]
        return [Reason(int(rated[i]), float(ratings[i]), float(weights[i])) for i in best if weights[i] > 0]

    def _expected(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        base, b_user = self.baseline()
        return base[item] + b_user[user]
