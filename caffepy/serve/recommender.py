"""A recommender as a model that is served: it is asked with the users and items of the file that it was trained on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffepy.net.layer import layer_class
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import LayerParameter
from caffepy.recommend.layers.model import RatingModel
from caffepy.recommend.scorer import Scorer
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.refusal import invalid
from caffepy.serve.servable import Parts, check_layers, inside
from caffepy.serve.signature import Arrays, Signature, Tensor

_USERS = 64
"""Whose scores of all items are computed at once."""
_NOT_RANKED = np.finfo(np.float32).min


def is_one(layers: Sequence[LayerParameter]) -> bool:
    """Whether the net takes users and items from a table, as deploy.prototxt of recommenders do."""
    return any(
        layer.type == "TableData" and {"user", "item"} <= {*layer.table_data_param.columns, *layer.top}
        for layer in layers
    )


def tables_of(layers: Sequence[LayerParameter]) -> list[str]:
    """The tables that a recommender reads."""
    return list(dict.fromkeys(part.source for part in _readers(layers)))


def keep_inside(parts: Parts, layers: Sequence[LayerParameter]) -> None:
    """Let the net read the tables in the version's folder. Raises ConfigError for whatever else it would read."""
    readers = list(_readers(layers))
    names = [Path(part.source).name for part in readers]
    for part in readers:
        part.source = ""
    check_layers(list(layers))
    for part, name in zip(readers, names):
        part.source = str(inside(parts.folder, name))


def _readers(layers: Sequence[LayerParameter]) -> Iterator[Any]:
    """The parameters that name a table."""
    for layer in layers:
        if layer.type == "TableData":
            yield layer.table_data_param
        elif issubclass(layer_class(layer.type), RatingModel):
            yield layer.ratings_param


class Recommender:
    """Scores of users and items by their ids: a rating for each pair, or for each user a score of every item.

    The latter are ranked as `caffepy recommend` does: beyond the ends of the scale, too, by the baseline for users
    without ratings; what a user has rated comes last where `exclude_seen` says so.
    """

    def __init__(self, net: Net, settings: Servable):
        self.name = net.engine.name
        self.scorer = Scorer(net)
        for model in self.scorer.members.models:
            model.tells_unknown = False  # at every request
        self.top, self.exclude_seen = settings.answer == Servable.TOP, settings.exclude_seen
        self._lock = threading.Lock()

    @property
    def signature(self) -> Signature:
        user, item = (Tensor(name, name, (-1,), words=True) for name in ("user", "item"))
        if self.top:
            return Signature((user,), (Tensor("score", "score", (-1, self.scorer.history.num_items)),), True)
        return Signature((user, item), (Tensor(self.scorer.output, self.scorer.output, (-1,)),), True)

    @property
    def words(self) -> dict[str, dict[str, int]]:
        """The ids of users and items by what their file calls them."""
        table = self.scorer.table
        return {
            tensor.name: {word: i for i, word in enumerate(table.vocabulary(tensor.name))}
            for tensor in self.signature.inputs
        }

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        user = feeds["user"].astype(np.int64)
        with self._lock:
            if not self.top:
                return dict.fromkeys(outputs, self.scorer.scores(user, feeds["item"].astype(np.int64)))
            parts = [self._ranked(user[a : a + _USERS]) for a in range(0, len(user), _USERS)]
        return dict.fromkeys(outputs, np.concatenate(parts))

    def _ranked(self, users: np.ndarray) -> np.ndarray:
        scores, h = self.scorer.of_all_items(users), self.scorer.history
        if self.exclude_seen:
            at, rows = h.rows_of(users)
            scores[at, h.item[rows]] = _NOT_RANKED
        return scores


def ids_of(name: str, known: Mapping[str, int], values: np.ndarray) -> np.ndarray:
    """The ids of words, which may come as bytes or, where they are numbers, as these. Raises Refused for others."""
    out = np.empty(values.size, np.float32)
    for i, value in enumerate(values.ravel().tolist()):
        word = _word(value)
        if word not in known:
            raise invalid(f'the {name} "{word[:80]}" is not known')
        out[i] = known[word]
    return out


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
