"""TableData: columns of a table as batches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from caffepy import rng
from caffepy.data.order import Cursor
from caffepy.data.tables import lookup, negatives
from caffepy.data.tables.groups import RowGroups
from caffepy.data.tables.order import RowOrder
from caffepy.data.tables.table import PAD, held_out, open_table, pair_numbers
from caffepy.errors import ConfigError, DataError
from caffepy.layers.batches import Batch, BatchLayer, Picture, Position
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.proto.caffe_pb2 import LayerParameter

LABEL, MASK, NEGATIVE = "label", "mask", "negative"


@register("TableData")
class TableData(BatchLayer):
    """Columns of the table `table_data_param.source`, each in the top of its name, in batches of `batch_size` rows.

    A top (B,) is a column, or a feature of the ids in one (the genres of the item); lists of ids are (B, L) with zeros
    behind their end, and a top `NAME_mask` has ones where they are ids. In table order and round again, or mixed anew
    for every epoch (`shuffle`); `batch_size: 0` is the whole table. Embed learns from a top of ids how many there are.

    `group_by: "user"`: an item of the batch is a user with all rows, tops (B, L), `user` itself (B,), `mask` (B, L).
    `negatives: n`: behind each row come n with items that the user has no row with, (B (1 + n),), and top `label`
    tells them apart, 1 and 0; with a top `negative` it holds these items instead, (B, n). Rows of the tables `seen`
    (train.h5, for a test) are no negatives either.
    Raises ConfigError for names that the table lacks, DataError for integers that float32 would round.
    """

    num_top = (1, None)
    recordable = False
    foldable = True
    tells_shapes = False

    @classmethod
    def expected(cls, param: LayerParameter, picture: Picture | None = None) -> list[tuple[int, ...] | None]:
        """Columns of numbers; lists and groups as if they had one entry."""
        p, names = param.table_data_param, list(param.table_data_param.columns) or list(param.top)
        size = p.batch_size or 1
        if p.group_by:
            return [(size,) if name == p.group_by else (size, 1) for name in names]
        if NEGATIVE in names:
            return [(size, p.negatives) if name == NEGATIVE else (size,) for name in names]
        return [(size * (1 + p.negatives),)] * len(names)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.table_data_param
        if not p.source:
            raise ConfigError("table_data_param.source is not set", hint='It names a table: "train.h5".')
        self.names = list(p.columns) or list(self.param.top)
        if len(self.names) != len(top):
            raise ConfigError(f"{len(self.names)} columns for {len(top)} tops: give one for each, or none")
        self.table = open_table(p.source)
        if not len(self.table):
            raise DataError("the table has no rows", where=p.source)
        self._check_special()
        self.lookups = {name: lookup.find(self.table, name) for name in self.names if name not in self.special}
        self.fed: dict[str, np.ndarray] | None = None
        self.seed = rng.draw() if p.shuffle or p.negatives else 0
        self.length = self._length()
        self.order = RowOrder(self.length, p.shuffle, self.seed)
        self.batch_size = p.batch_size or self.order.length
        self.start(Position(Cursor()), p.prefetch, top)
        for blob, name in zip(top, self.names):
            blob.num_ids = self.num_ids(name)

    def num_ids(self, name: str) -> int:
        """How many ids the top of this column may hold; 0 for what is no ids."""
        if name == NEGATIVE:
            return self.table.size(self.param.table_data_param.negative_column)
        return self.lookups[name].size if name in self.lookups else 0

    def feed(self, values: Mapping[str, np.ndarray]) -> None:
        """Let the next forward pass see these ids, by column, instead of rows of the table; zeros in other columns."""
        self.fed = {name: np.asarray(array) for name, array in values.items()}

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.fed is None:
            super().forward(bottom, top)
            return
        shape = next(iter(self.fed.values())).shape
        values_of = {**{name: self._nothing(name, shape) for name in self._needed}, **self.fed}
        for blob, name in zip(top, self.names):
            values = self._values(name, values_of)
            blob.reshape(values.shape)
            blob.data[...] = self.engine.asarray(values)
        self.fed = None

    def _nothing(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """What a column holds where only others are fed: zeros, empty lists."""
        column = self.table.column(name)
        return np.full(shape + column.values.shape[1:], PAD if column.is_list else 0, column.values.dtype)

    # Batches

    def items(self, position: Position) -> tuple[int, int]:
        return self.batch_size, sum(self._width(name) for name in self.names)

    def _width(self, name: str) -> int:
        """The values of an item in the top of this name; a group has rows as often as there are, and counts as one."""
        found = self.lookups.get(name)
        return prod(found.column.values.shape[1:]) if found else 1

    @cached_property
    def special(self) -> set[str]:
        """Tops that are no columns."""
        p = self.param.table_data_param
        return ({MASK} if p.group_by else set()) | ({LABEL, NEGATIVE} if p.negatives else set())

    @cached_property
    def groups(self) -> RowGroups:
        keys = self.table[self.param.table_data_param.group_by]
        return RowGroups(keys if self.held is None else keys[self.held])

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        chosen, cursor = self.order.take(position.cursor, self.due(position.cursor, self.length))
        if self.param.table_data_param.group_by:
            values = self._grouped(chosen)
        else:
            values = self._rows(chosen)
        if self.param.table_data_param.negatives:
            self._add_negatives(values, position.cursor)
        return [self._values(name, values) for name in self.names], Position(cursor)

    def _rows(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        rows = rows if self.held is None else self.held[rows]
        return {name: self.table[name][rows] for name in self._needed}

    def _grouped(self, groups: np.ndarray) -> dict[str, np.ndarray]:
        rows, mask = self.groups.padded(groups)
        values = self._rows(rows)
        values[self.param.table_data_param.group_by] = self.groups.keys[groups]
        values[MASK] = mask.astype(np.float32)
        return values

    def _add_negatives(self, values: dict[str, np.ndarray], cursor: Cursor) -> None:
        p, column = self.param.table_data_param, self.param.table_data_param.negative_column
        random = np.random.default_rng([self.seed, *cursor, self.order.rank])
        users, size = values["user"], self.table.size(column)
        drawn = negatives.draw(users, p.negatives, size, self._pairs, random)
        if NEGATIVE in self.names:
            values[NEGATIVE] = drawn
            return
        for name, found in values.items():
            values[name] = np.repeat(found, 1 + p.negatives, axis=0)
        values[column] = np.concatenate([values[column].reshape(len(users), -1)[:, :1], drawn], axis=1).reshape(-1)
        values[LABEL] = np.tile(np.eye(1, 1 + p.negatives, dtype=np.float32)[0], len(users))

    def _values(self, name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        if name not in self.lookups:
            return values[name].astype(np.float32)
        found = self.lookups[name](values)
        if MASK in values and self.lookups[name].source != self.param.table_data_param.group_by:
            found[values[MASK] == 0] = 0  # behind the end of a group, where lists have no ids either
        return found

    @cached_property
    def _pairs(self) -> np.ndarray:
        """Which user has which item, in the table and in those of `seen`: sorted numbers."""
        p, found = self.param.table_data_param, []
        for table in (self.table, *map(open_table, p.seen)):
            for name in ("user", p.negative_column):
                if table.vocabulary(name) != self.table.vocabulary(name):
                    raise DataError(
                        f"its {name}s are numbered otherwise than those of {self.table.path}",
                        where=table.path,
                        hint="Both must come from one convert-ratings.",
                    )
            found.append(pair_numbers(table["user"], table[p.negative_column], table.size(p.negative_column)))
        return np.unique(np.concatenate(found))

    @cached_property
    def _needed(self) -> set[str]:
        """The columns that a batch is made of."""
        p = self.param.table_data_param
        needed = {found.source for found in self.lookups.values()} | (
            {"user", p.negative_column} if p.negatives else set()
        )
        return needed - {p.group_by}

    @cached_property
    def held(self) -> np.ndarray | None:
        """The rows that are served, where not all are: those of `held_out`, those of `fold_param`."""
        share, rows = self.param.table_data_param.held_out, self.kept(len(self.table))
        if not share:
            return rows
        apart = held_out(self.table["user"], self.table["item"], share)
        found = np.flatnonzero(apart) if rows is None else rows[apart[rows]]
        if not len(found):
            raise DataError("no row falls into held_out", where=self.table.path, hint="Make the share larger.")
        return found

    def _length(self) -> int:
        if self.param.table_data_param.group_by:
            return len(self.groups)
        return len(self.table) if self.held is None else len(self.held)

    def column(self, name: str) -> np.ndarray:
        return self.table[name]

    def _check_special(self) -> None:
        p = self.param.table_data_param
        if p.group_by and p.negatives:
            raise ConfigError("group_by and negatives exclude each other")
        if p.group_by:
            self.table.size(p.group_by)
        if p.negatives:
            self.table.size("user"), self.table.size(p.negative_column)

    # Several processes, resuming

    def shard(self, rank: int, size: int) -> None:
        self.size = size
        self.order = self.order._replace(rank=rank, size=size)
        self.prefetcher.restart(self.prefetcher.state)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]
        self.order = self.order._replace(seed=self.seed)
        super().set_state(state)
