"""A net asked about users and items: whatever its layers, its TableData is fed ids, its last output is the score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import numpy as np

from caffepy import passes
from caffepy.errors import ConfigError
from caffepy.layers.table_data import TableData
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import BaselineParameter, NeighborsParameter, RatingsParameter
from caffepy.recommend import baselines
from caffepy.recommend.history import UserHistory, open_history
from caffepy.recommend.members import Members
from caffepy.recommend.similarity import pair_similarity

_PAIRS = 1 << 18
"""Asked at once."""
_OUTPUTS = ("prediction", "score")
_REASONS = 3


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
        self.members = Members(net)
        source = RatingsParameter(source=self.data.param.table_data_param.source)
        models = self.members.models
        self.history: UserHistory = models[0].history if models else open_history(source)
        self.table = self.data.table
        self.output = next((name for name in _OUTPUTS if name in net.engine_blobs), net.outputs[-1])

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
        found[cold] = self.baseline[0]
        return found

    @contextmanager
    def _unclipped(self) -> Iterator[None]:
        before = [(model, model.clips) for model in self.members.models]
        for model, _ in before:
            model.clips = False
        try:
            yield
        finally:
            for model, clips in before:
                model.clips = clips

    def on_scale(self, score: float) -> float:
        """A score as it is shown: a rating within the scale, or as it is."""
        return min(max(score, self.history.low), self.history.high) if self.members.clip else score

    @cached_property
    def baseline(self) -> tuple[np.ndarray, np.ndarray]:
        """What somebody unknown is expected to give all items (I,), and biases of users (U,)."""
        h, p = self.history, BaselineParameter()
        b_user, b_item = np.zeros(h.num_users, np.float32), np.zeros(h.num_items, np.float32)
        for _ in range(10):
            baselines.fit(p, h, b_user, b_item)
        return np.float32(h.mean) + b_item, b_user

    def fold_in(self, items: np.ndarray, ratings: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """The scores of all items for somebody new, and the members for which the baseline speaks; None: for all."""
        base = self.baseline[0] + self._bias(items, ratings)
        found = self.members.fold_in(items, ratings, base)
        return (base, None) if found is None else (found.scores, found.without)

    def _bias(self, items: np.ndarray, ratings: np.ndarray) -> float:
        """How much more somebody new gives than others, by these ratings."""
        return float((ratings - self.baseline[0][items]).sum() / (len(items) + BaselineParameter().reg_user))

    def alike(self, item: np.ndarray) -> np.ndarray:
        """How similar all items are to these (n,), (n, I): as the models say, else by what users gave both."""
        found = self.members.alike(item)
        if found is None:
            rest = self.history.rating - self._expected(self.history.user, self.history.item)
            p = NeighborsParameter(similarity=NeighborsParameter.PEARSON_BASELINE)
            found = pair_similarity(p, self.history, rest, item)
        found = found.copy()
        found[np.arange(len(item)), item] = -np.inf
        return found

    def reasons(self, user: int, item: int) -> list[Reason]:
        """The user's ratings that speak most for an item: similar to it, and above what was to be expected."""
        h = self.history
        rows = slice(h.starts[user], h.starts[user + 1])
        rated = h.item[rows]
        return self._reasons(rated, h.rating[rows], self._expected(np.full(len(rated), user), rated), item)

    def reasons_of_new(self, rated: np.ndarray, ratings: np.ndarray, item: int) -> list[Reason]:
        """The same of somebody new with these ratings."""
        return self._reasons(rated, ratings, self.baseline[0][rated] + self._bias(rated, ratings), item)

    def _reasons(self, rated: np.ndarray, ratings: np.ndarray, expected: np.ndarray, item: int) -> list[Reason]:
        weights = np.maximum(self.alike(np.array([item]))[0][rated], 0) * (ratings - expected)
        best = np.argsort(-weights, kind="stable")[:_REASONS]
        return [Reason(int(rated[i]), float(ratings[i]), float(weights[i])) for i in best if weights[i] > 0]

    def _expected(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        base, b_user = self.baseline
        return base[item] + b_user[user]
