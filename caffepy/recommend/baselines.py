"""Baselines of ratings: mean + b[user] + b[item] (Koren 2010)."""

from __future__ import annotations

import numpy as np

from caffepy.proto.caffe_pb2 import BaselineParameter
from caffepy.recommend.history import UserHistory


def fit(p: BaselineParameter, history: UserHistory, b_user: np.ndarray, b_item: np.ndarray) -> None:
    """One pass over the ratings, changing the biases in place."""
    if p.method == p.ALS:
        rest = history.rating - np.float32(history.mean)
        b_item[...] = _shrunk(history.item, rest - b_user[history.user], history.item_counts, p.reg_item)
        b_user[...] = _shrunk(history.user, rest - b_item[history.item], history.user_counts, p.reg_user)
    elif p.method == p.SGD:
        _descend(p, history, b_user, b_item)


def _shrunk(index: np.ndarray, rest: np.ndarray, counts: np.ndarray, reg: float) -> np.ndarray:
    """The means of `rest` by index, as if `reg` zeros were among them."""
    return np.bincount(index, rest, minlength=len(counts)) / np.maximum(counts + reg, 1e-9)


_BATCH = 256
"""Ratings whose errors are taken at once: with 0.005 as a rate the biases are those of one at a time to 1e-3."""


def _descend(p: BaselineParameter, history: UserHistory, b_user: np.ndarray, b_item: np.ndarray) -> None:
    rate, reg = np.float32(p.learning_rate), np.float32(p.reg)
    rest = history.rating - np.float32(history.mean)
    # A step of 1/stride through the rows: a batch holds few ratings of a user.
    stride = max(1, len(history) // _BATCH)
    for first in range(stride):
        user, item = history.user[first::stride], history.item[first::stride]
        error = rest[first::stride] - b_user[user] - b_item[item]
        np.add.at(b_user, user, rate * (error - reg * b_user[user]))
        np.add.at(b_item, item, rate * (error - reg * b_item[item]))
