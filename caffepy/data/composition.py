"""Data composed: a dataset is a sequence of records, and what is made of datasets is one.

    pets = database("pets/train_lmdb").concat(database("more_lmdb")).resample().map(flip, seed=1).parallel(4)
    train, val = pets.split(0.9, 0.1)
    net.fit(train, validation_data=val)

A record may be another in every epoch, as where one is shuffled: `at(epoch, i)` is a pure function. So a place in a
composition, however it is composed, is an epoch and a number: that of the last dataset, from which those of all
others follow, and a resume stores it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from caffepy.data.balance import drawn
from caffepy.data.order import Cursor, Order
from caffepy.data.pieces import Pieces
from caffepy.errors import ConfigError, ShapeError, whole_number

Record = Any
"""An array, a tuple of arrays or numbers (picture, label), or a dict by names."""


class Dataset:
    """Base of all datasets; each method makes another, and reads nothing yet."""

    def __len__(self) -> int:
        raise NotImplementedError

    def at(self, epoch: int, i: int) -> Record:
        """Record `i`, 0 up to the length, of an epoch."""
        raise NotImplementedError

    def fetch(self, epoch: int, indices: Sequence[int]) -> list[Record]:
        """Several records of an epoch."""
        return [self.at(epoch, i) for i in indices]

    def __getitem__(self, i: int | slice) -> Any:
        if isinstance(i, slice):
            return self.subset(range(len(self))[i])
        if not -len(self) <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        return self.at(0, i % len(self))

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def records(self, start: Cursor = Cursor(), epochs: int | None = 1) -> Iterator[Record]:  # noqa: B008
        """The records from a place on, to the end of so many epochs (None: without end)."""
        return RecordIterator(self, start, epochs)

    def concat(self, *others: Any) -> Dataset:
        return concat(self, *others)

    def subset(self, indices: Sequence[int] | range) -> Dataset:
        """The records of these numbers, in their order."""
        return Picked(self, indices)

    def shuffle(self, seed: int = 0) -> Dataset:
        """In another order in every epoch."""
        return Shuffled(self, seed)

    def split(self, *shares: float, seed: int | None = 0) -> list[Dataset]:
        """Parts in these shares, of one mixture of the records; as they lie where `seed` is None."""
        if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
            raise ConfigError(f"split takes shares that add up to 1 at most, such as 0.8, 0.2, got {shares}")
        indices = np.arange(len(self))
        if seed is not None:
            indices = np.random.default_rng(seed).permutation(indices)
        ends = [round(end * len(self)) for end in accumulate(shares)]
        return [self.subset(indices[start:end].tolist()) for start, end in zip([0, *ends], ends)]

    def map(self, function: Callable[..., Record], seed: int | None = None) -> Dataset:
        """`function(record)`; with a `seed` `function(record, random)`, a generator for each record and epoch."""
        return Mapped(self, function, seed)

    def filter(self, wanted: Callable[[Record], bool]) -> Dataset:
        """The records that are `wanted`, which all are asked for once, when the first is needed."""
        return FilteredDataset(self, wanted)

    def resample(self, label: Callable[[Record], Hashable] | None = None, seed: int = 0) -> Dataset:
        """As many records, every class equally often, drawn anew in every epoch; `label`: by default the last part."""
        return Resampled(self, label or _last, seed)

    def batch(self, size: int, partial: bool = True) -> Dataset:
        """Batches of stacked records, the last one smaller, or left out unless `partial`."""
        return Batched(self, whole_number("size", size, least=1), partial)

    def zip(self, *others: Any) -> Dataset:
        """Tuples of the records of the same number."""
        return zipped(self, *others)

    def cache(self) -> Dataset:
        """Keeps the records of the first epoch in memory and gives them in all others."""
        return Cached(self)

    def parallel(self, threads: int) -> Dataset:
        """Its records are made on so many threads, where several are wanted at once; their order stays."""
        return Parallel(self, whole_number("threads", threads, least=1))


class RecordIterator(Iterator[Record]):
    """Goes through a dataset; `position` is where it stands, for a resume."""

    def __init__(self, dataset: Dataset, start: Cursor, epochs: int | None):
        self.dataset, self.position, self._end = dataset, Cursor(*start), epochs
        self._ahead: list[Record] = []

    def __next__(self) -> Record:
        epoch, i = self.position
        if not len(self.dataset) or (self._end is not None and epoch >= self._end):
            raise StopIteration
        if not self._ahead:
            self._ahead = self.dataset.fetch(epoch, range(i, min(i + _AHEAD, len(self.dataset))))[::-1]
        self.position = Cursor(epoch, i + 1) if i + 1 < len(self.dataset) else Cursor(epoch + 1, 0)
        return self._ahead.pop()


_AHEAD = 16


class Wrapped(Dataset):
    """Any sequence as a dataset."""

    def __init__(self, records: Sequence[Record]):
        self.sequence = records

    def __len__(self) -> int:
        return len(self.sequence)

    def at(self, epoch: int, i: int) -> Record:
        return self.sequence[i]


def dataset(records: Any) -> Dataset:
    """A dataset as it is, or one of any sequence: a list, a database's reader, a Torch dataset."""
    if isinstance(records, Dataset):
        return records
    if not (hasattr(records, "__len__") and hasattr(records, "__getitem__")) or isinstance(
        records, (str, bytes, Mapping)
    ):
        raise ConfigError(f"a dataset is a sequence of records, got {type(records).__name__}")
    return Wrapped(records)


class Concatenated(Dataset):
    def __init__(self, parts: Sequence[Dataset]):
        self.parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, epoch: int, i: int) -> Record:
        which = bisect_right(self._ends, i)
        return self.parts[which].at(epoch, i - (self._ends[which - 1] if which else 0))


def concat(*parts: Any) -> Dataset:
    """The records of all datasets, one after another."""
    return Concatenated([dataset(part) for part in parts])


class Zipped(Dataset):
    def __init__(self, parts: Sequence[Dataset]):
        if len({len(part) for part in parts}) > 1:
            raise ShapeError(f"datasets of {', '.join(str(len(part)) for part in parts)} records cannot be zipped")
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts[0])

    def at(self, epoch: int, i: int) -> Record:
        return tuple(part.at(epoch, i) for part in self.parts)


def zipped(*parts: Any) -> Dataset:
    """Tuples of the records of the same number."""
    return Zipped([dataset(part) for part in parts])


class Reordered(Dataset):
    """Base of datasets that have other numbers for another's records."""

    def __init__(self, inner: Dataset):
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def number(self, epoch: int, i: int) -> int:
        """The other's number."""
        raise NotImplementedError

    def at(self, epoch: int, i: int) -> Record:
        return self.inner.at(epoch, self.number(epoch, i))

    def fetch(self, epoch: int, indices: Sequence[int]) -> list[Record]:
        return self.inner.fetch(epoch, [self.number(epoch, i) for i in indices])


class Picked(Reordered):
    def __init__(self, inner: Dataset, indices: Sequence[int] | range):
        super().__init__(inner)
        self.indices = np.asarray(indices, int).reshape(-1)
        outside = self.indices[(self.indices < 0) | (self.indices >= len(inner))]
        if len(outside):
            raise ConfigError(f"record {outside[0]} of {len(inner)} is in the subset")

    def __len__(self) -> int:
        return len(self.indices)

    def number(self, epoch: int, i: int) -> int:
        return int(self.indices[i])


class Shuffled(Reordered):
    def __init__(self, inner: Dataset, seed: int):
        super().__init__(inner)
        self.order = Order(len(inner), True, seed)

    def number(self, epoch: int, i: int) -> int:
        return self.order.permuted(epoch, i)


class FilteredDataset(Reordered):
    def __init__(self, inner: Dataset, wanted: Callable[[Record], bool]):
        super().__init__(inner)
        self.wanted = wanted

    @cached_property
    def indices(self) -> list[int]:
        return [i for i, record in enumerate(self.inner) if self.wanted(record)]

    def __len__(self) -> int:
        return len(self.indices)

    def number(self, epoch: int, i: int) -> int:
        return self.indices[i]


class Resampled(Reordered):
    def __init__(self, inner: Dataset, label: Callable[[Record], Hashable], seed: int):
        super().__init__(inner)
        self.label, self.seed = label, seed
        self._epochs: dict[int, np.ndarray] = {}

    @cached_property
    def labels(self) -> np.ndarray:
        numbers: dict[Hashable, int] = {}
        return np.array([numbers.setdefault(self.label(record), len(numbers)) for record in self.inner], int)

    def number(self, epoch: int, i: int) -> int:
        if epoch not in self._epochs:
            random = np.random.default_rng([self.seed, epoch])
            made = drawn(np.arange(len(self.inner)), self.labels, random)
            self._epochs = {**dict(list(self._epochs.items())[-1:]), epoch: made}
        return int(self._epochs[epoch][i])


class Mapped(Dataset):
    def __init__(self, inner: Dataset, function: Callable[..., Record], seed: int | None):
        self.inner, self.function, self.seed = inner, function, seed

    def __len__(self) -> int:
        return len(self.inner)

    def at(self, epoch: int, i: int) -> Record:
        return self._mapped(self.inner.at(epoch, i), epoch, i)

    def fetch(self, epoch: int, indices: Sequence[int]) -> list[Record]:
        return [self._mapped(record, epoch, i) for record, i in zip(self.inner.fetch(epoch, indices), indices)]

    def _mapped(self, record: Record, epoch: int, i: int) -> Record:
        if self.seed is None:
            return self.function(record)
        return self.function(record, np.random.default_rng([self.seed, epoch, i]))


class Batched(Dataset):
    def __init__(self, inner: Dataset, size: int, partial: bool):
        self.inner, self.size, self.partial = inner, size, partial

    def __len__(self) -> int:
        return (len(self.inner) + (self.size - 1) * self.partial) // self.size

    def at(self, epoch: int, i: int) -> Record:
        end = min((i + 1) * self.size, len(self.inner))
        return stacked(self.inner.fetch(epoch, range(i * self.size, end)))


class Cached(Dataset):
    def __init__(self, inner: Dataset):
        self.inner = inner
        self._kept: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self.inner)

    def at(self, epoch: int, i: int) -> Record:
        return self.fetch(epoch, [i])[0]

    def fetch(self, epoch: int, indices: Sequence[int]) -> list[Record]:
        missing = [i for i in indices if i not in self._kept]
        self._kept.update(zip(missing, self.inner.fetch(0, missing)))
        return [self._kept[i] for i in indices]


class Parallel(Dataset):
    def __init__(self, inner: Dataset, threads: int):
        self.inner = inner
        self._pieces = Pieces(threads)

    def __len__(self) -> int:
        return len(self.inner)

    def at(self, epoch: int, i: int) -> Record:
        return self.inner.at(epoch, i)

    def fetch(self, epoch: int, indices: Sequence[int]) -> list[Record]:
        return self._pieces.map(lambda i: self.inner.at(epoch, i), list(indices))


def stacked(records: Sequence[Record]) -> Record:
    """Records of one form as one, each part with an axis of items in front. Raises ShapeError for parts that differ."""
    first = records[0]
    if isinstance(first, Mapping):
        return {name: stacked([record[name] for record in records]) for name in first}
    if isinstance(first, tuple):
        return tuple(stacked(parts) for parts in zip(*records, strict=True))
    arrays = [np.asarray(record) for record in records]
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(f"record {i} of the batch has shape {array.shape}, the first one {arrays[0].shape}")
    return np.stack(arrays)


def _last(record: Record) -> Hashable:
    label = record["label"] if isinstance(record, Mapping) else record[-1]
    return label.item() if isinstance(label, np.ndarray | np.generic) else label
