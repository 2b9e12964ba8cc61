"""What models of ratings share: they learn from the whole table, and predict for the pairs of a batch."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np

from caffepy import rng
from caffepy.errors import ConfigError, DataError, NotFiniteError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Count, Layer
from caffepy.proto.caffe_pb2 import TEST, TRAIN
from caffepy.recommend.history import open_history

log = logging.getLogger(__name__)

Values = list[np.ndarray]
"""The parameters on the host, to be changed in place."""


class RatingModel(Layer):
    """Base of layers with bottoms user, item and a top, the predicted rating of each pair.

    In TRAIN every forward pass is first one pass over the ratings of `ratings_param.source`, which fills or moves the
    parameters: an iteration of the solver is an epoch, the solver's own rate is not asked. Bottoms are ids of any
    shapes that broadcast; of a user alone, (N,), the top is the ratings of all items, (N, I). Predictions of pairs
    stay in the range of the ratings; a user or item without ratings has what the model says of nobody in particular.
    The layer passes no gradient on.
    """

    num_bottom: ClassVar[Count] = (1, 2)
    recordable = False
    clips: bool = True
    """Whether predictions are ratings, and stay in their range."""
    tells_unknown: bool = True
    """Whether the log says how many pairs of a test have nobody's ratings to go by."""

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parameters."""
        raise NotImplementedError

    def begin(self, values: Values, random: np.random.Generator) -> None:
        """Set the parameters, which are zeros, to where learning begins."""

    def learn(self, values: Values, epoch: int, random: np.random.Generator) -> None:
        """One pass over the ratings, the number `epoch` from 0 on."""
        raise NotImplementedError

    def predict(self, values: Values, user: np.ndarray, item: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """Of pairs (N,), the rating (N,)."""
        raise NotImplementedError

    def fold_in(self, values: Values, items: np.ndarray, ratings: np.ndarray) -> np.ndarray | None:
        """The ratings of all items (I,) by somebody new, who has given these; None where the model cannot say."""
        return None

    def alike(self, values: Values, item: np.ndarray) -> np.ndarray | None:
        """How similar all items are to some (n,), (n, I); None where the model does not say."""
        return None

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.history = open_history(self.param.ratings_param)
        for i, (blob, size) in enumerate(zip(bottom, (self.history.num_users, self.history.num_items))):
            if blob.num_ids not in (0, size):
                raise DataError(
                    f"{self.bottom_name(i)} has {blob.num_ids} ids, {self.history.path} has {size}",
                    hint="Both tables must come from one convert-ratings.",
                )
        self.epochs, self.seed = 0, rng.draw()
        values = [np.zeros(shape, np.float32) for shape in self.shapes()]
        self.begin(values, np.random.default_rng(self.seed))
        for value in values:
            self.add_blob(value.shape).data[...] = self.engine.asarray(value)
        self._freeze()

    def _freeze(self) -> None:
        """The solver leaves alone what `learn` moves."""
        if any(spec.HasField("lr_mult") and spec.lr_mult for spec in self.param.param):
            raise ConfigError(
                f"{self.type} learns by itself, but an lr_mult is given",
                hint="Remove the param { } blocks, or set lr_mult: 0.",
            )
        while len(self.param.param) < len(self.blobs):
            self.param.param.add()
        for spec in self.param.param:
            spec.lr_mult = spec.decay_mult = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) == 1:
            top[0].reshape((bottom[0].count, self.history.num_items))
            return
        try:
            top[0].reshape(np.broadcast_shapes(*(blob.shape for blob in bottom)))
        except ValueError:
            shapes = " and ".join(str(blob.shape) for blob in bottom)
            raise ShapeError(f"bottoms of shapes {shapes} do not pair") from None

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        values = [self.engine.to_host(blob.data) for blob in self.blobs]
        p = self.param.ratings_param
        if self.phase == TRAIN and (not p.epochs or self.epochs < p.epochs):
            self.learn(values, self.epochs, np.random.default_rng([self.seed, self.epochs]))
            self.epochs += 1
            if not all(np.isfinite(value).all() for value in values):
                raise NotFiniteError(
                    f"pass {self.epochs} over the ratings left parameters that are no numbers",
                    hint="Lower learning_rate.",
                )
            for blob, value in zip(self.blobs, values):
                blob.data[...] = self.engine.asarray(value)
        given = [blob.host() for blob in bottom]
        if len(bottom) == 1:
            given = [given[0].reshape(-1, 1), np.arange(self.history.num_items)]
        ids = [np.broadcast_to(array, top[0].shape).reshape(-1).astype(np.int64) for array in given]
        for i, size in enumerate((self.history.num_users, self.history.num_items)):
            self._check_ids(i, ids[i], size)
        if self.phase == TEST and len(bottom) > 1 and self.tells_unknown:
            self._count_unknown(*ids[:2])
        found = self.predict(values, *ids)
        if self.clips and len(bottom) > 1:  # for a ranking, clipping would make ties
            found = np.clip(found, self.history.low, self.history.high)
        top[0].data[...] = self.engine.asarray(found.reshape(top[0].shape).astype(np.float32))

    def _count_unknown(self, user: np.ndarray, item: np.ndarray) -> None:
        unknown = (self.history.user_counts[user] == 0) | (self.history.item_counts[item] == 0)
        if unknown.any():
            log.info(
                "%s: %d of %d have a user or an item without ratings, for whom a baseline speaks",
                self.name, int(unknown.sum()), len(user),
            )  # fmt: skip

    def _check_ids(self, i: int, ids: np.ndarray, size: int) -> None:
        if ids.size and (ids.min() < 0 or ids.max() >= size):
            wrong = ids[(ids < 0) | (ids >= size)][0]
            raise DataError(
                f"id {wrong} of {self.bottom_name(i)} is outside 0 .. {size - 1}",
                hint=f"{self.history.path} and the data must come from one convert-ratings.",
            )

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nobody asks for a gradient of ids."""

    def state(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.epochs, self.seed = state["epochs"], state["seed"]
