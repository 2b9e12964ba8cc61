"""HDF5Data: batches of rows from HDF5 files."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod

import numpy as np

from caffepy import rng
from caffepy.data.order import Cursor
from caffepy.data.sources.hdf5 import Hdf5Rows
from caffepy.errors import ConfigError, DataError
from caffepy.layers.batches import Batch, BatchLayer, Position, new_array
from caffepy.net.blob import Blob
from caffepy.net.layer import register

DEPTH = 4
"""Batches read ahead."""


@register("HDF5Data")
class HDF5Data(BatchLayer):
    """Rows of the datasets named as the tops, of any rank, from the files that `hdf5_data_param.source` lists.

    In file order and round again; a batch may span files. `shuffle` mixes the order of files for every epoch and that
    of rows in each file. Any number type becomes float32. One whole file at a time is kept in memory, as in Caffe: data
    that is larger than that belongs into several files.
    """

    num_top = (1, None)
    foldable = True
    rank = 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.hdf5_data_param
        if p.batch_size <= 0:
            raise ConfigError(
                "hdf5_data_param.batch_size must be at least 1", hint="Set hdf5_data_param { batch_size: 64 }."
            )
        if not p.source:
            raise ConfigError("hdf5_data_param.source is not set", hint="It names a list of HDF5 files.")
        if self.param.HasField("transform_param"):
            raise ConfigError(
                "HDF5Data does not transform", hint="Remove transform_param; scale the data in the files."
            )
        self.batch_size = p.batch_size
        self.rows = Hdf5Rows(p.source, list(self.param.top))
        kept = self.kept(len(self.rows))
        edges = self.rows.starts
        self.held = [
            np.arange(b - a) if kept is None else kept[(a <= kept) & (kept < b)] - a for a, b in pairwise(edges)
        ]
        """Of each file the rows that are read."""
        self.length = sum(map(len, self.held))
        self.seed = rng.draw() if p.shuffle else 0
        self.start(Position(Cursor()), DEPTH, top)

    def items(self, position: Position) -> tuple[int, int]:
        return self.batch_size, sum(map(prod, self.rows.shapes))

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        size = self.due(position.cursor, self.length)
        (epoch, index), filled, passed = position.cursor, 0, 0
        batch: Batch = []
        while passed < size * self.size:  # all processes' rows, of which every size-th is ours
            file, order, first = self._locate(epoch, index)
            block = order[first : first + size * self.size - passed]
            take = block[(self.rank - passed) % self.size :: self.size]
            self._copy(file, take, batch, recycled, filled, size)
            filled += len(take)
            passed += len(block)
            index += len(block)
            if index == self.length:
                epoch, index = epoch + 1, 0
        return batch, Position(Cursor(epoch, index))

    def _copy(self, file: int, rows: np.ndarray, batch: Batch, recycled: Batch | None, at: int, size: int) -> None:
        """Rows of a file to place `at` of a batch of `size`, which the first file gives its shapes."""
        arrays = self.rows.load(file)
        if not batch:
            batch.extend(new_array(recycled, i, (size, *a.shape[1:])) for i, a in enumerate(arrays))
        for name, target, source in zip(self.rows.names, batch, arrays):
            if target.shape[1:] != source.shape[1:]:
                raise DataError(
                    f'rows of "{name}" have shape {source.shape[1:]}, the batch began with {target.shape[1:]}',
                    where=self.rows.files[file],
                    hint="All files need rows of one shape.",
                )
            target[at : at + len(rows)] = source[rows]

    def _locate(self, epoch: int, index: int) -> tuple[int, np.ndarray, int]:
        """The file that row `index` of an epoch is in, the order of its rows, and where in it the row stands."""
        count = len(self.rows.files)
        files = self._mix(count, epoch, 0)
        for file in files:
            rows = self.held[file]
            if index < len(rows):
                return int(file), rows[self._mix(len(rows), epoch, 1 + int(file))], index
            index -= len(rows)
        raise AssertionError("a position lies inside its epoch")

    def _mix(self, count: int, epoch: int, stream: int) -> np.ndarray:
        return _mixed(count, (self.seed, epoch, stream) if self.param.hdf5_data_param.shuffle else None)

    def column(self, name: str) -> np.ndarray:
        rows = Hdf5Rows(self.param.hdf5_data_param.source, [name])
        values = np.concatenate([rows.load(file)[0] for file in range(len(rows.files))])
        if values[0].size > 1:
            raise ConfigError(f'a record has {values[0].size} values of "{name}", not one')
        return values.reshape(len(values))

    def shard(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.prefetcher.restart(self.prefetcher.state)

    def state(self):
        return {**super().state(), "seed": self.seed}

    def set_state(self, state) -> None:
        cursor, _ = state["position"]
        if cursor[1] >= self.length:
            raise ValueError(f"it stands at row {cursor[1]} of {self.length}")
        self.seed = state["seed"]
        super().set_state(state)


@lru_cache(8)
def _mixed(count: int, seeds: tuple[int, int, int] | None) -> np.ndarray:
    return np.arange(count) if seeds is None else np.random.default_rng(seeds).permutation(count)
