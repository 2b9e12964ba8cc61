"""Some records of a source, as a source."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.data.order import Cursor, Order
from caffepy.errors import ConfigError, DataError
from caffepy.files import near_names
from caffepy.proto.caffe_pb2 import FoldParameter


class Subset:
    """The order of some records of a source: `order` goes through them, `records` says which they are."""

    def __init__(self, order: Order, records: np.ndarray):
        self.order, self.records = order._replace(length=len(records)), records
        self.length, self.shuffle, self.rank = self.order.length, order.shuffle, order.rank

    def advance(self, cursor: Cursor, count: int) -> tuple[list[int], Cursor]:
        """As Order's."""
        places, cursor = self.order.advance(cursor, count)
        return self.records[places].tolist(), cursor

    def check(self, cursor: Cursor) -> None:
        """As Order's."""
        self.order.check(cursor)

    def _replace(self, **fields: Any) -> Subset:
        return Subset(self.order._replace(**fields), self.records)


def part_of(split: str, length: int) -> np.ndarray:
    """The records, of `length`, that `train:0.8`, `test:0.2` or `0.8:0.9` names, of one fixed mixture of them all."""
    name, _, share = split.partition(":")
    try:
        whole = {"train": (0.0, float(share)), "test": (1 - float(share), 1.0)}
        begin, end = whole[name] if name in whole else (float(name), float(share))
    except ValueError:
        begin, end = 1.0, 0.0
    if not 0 <= begin < end <= 1:
        raise ConfigError(
            f'split: "{split}" names no part of the records', hint='Write "train:0.8", "test:0.2" or "0.8:0.9".'
        )
    first, last = round(begin * length), round(end * length)
    if first == last:
        raise ConfigError(f'split: "{split}" of {length} records is none of them')
    return np.sort(np.random.default_rng(0).permutation(length)[first:last])


def records_of(param: FoldParameter, length: int) -> np.ndarray:
    """The records, of `length`, that a layer with this `fold_param` reads. Raises DataError that names the file."""
    try:
        folds = np.load(param.source, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or "it is no .npy file"
        raise DataError(f"cannot read the folds: {reason}", where=param.source, hint=near_names(param.source)) from None
    except (ValueError, EOFError):
        raise DataError("this is no .npy file of folds", where=param.source) from None
    if not isinstance(folds, np.ndarray) or folds.ndim != 1 or folds.dtype.kind not in "ui":
        raise DataError("the file holds no fold number a record", where=param.source)
    if len(folds) != length:
        raise DataError(
            f"the folds are of {len(folds)} records, the layer's source has {length}",
            where=param.source,
            hint="Make the folds again: caffepy cross-validate does.",
        )
    records = np.flatnonzero((folds == param.fold) == param.held_out)
    if not len(records):
        raise DataError(
            f"no record is {'in' if param.held_out else 'outside of'} fold {param.fold}", where=param.source
        )
    return records
