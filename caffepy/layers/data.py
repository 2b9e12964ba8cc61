"""Data: batches of pictures and labels from a database, read ahead on a background thread."""

from __future__ import annotations

import logging

import numpy as np

from caffepy import rng
from caffepy.data.balance import Balanced
from caffepy.data.order import Cursor, Order
from caffepy.data.sources import datum as datums
from caffepy.data.sources.databases import Joined, guess_backend, open_database
from caffepy.data.subset import Subset, part_of
from caffepy.errors import ConfigError
from caffepy.layers.batches import PictureLayer
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.proto.caffe_pb2 import DataParameter

log = logging.getLogger(__name__)

Record = tuple[bytes, bytes]


@register("Data")
class Data(PictureLayer):
    """Batches from an LMDB or LevelDB of Datum records: data (N, C, H, W) and, in a second top, labels (N).

    Records are read in key order and from the start again at the end; a batch may span the wrap. A record without a
    label counts as 0, as in Caffe, but is reported. Reads `data_param` (`source`, `backend`, `batch_size`, `prefetch`;
    beyond Caffe `shuffle`, `threads`, `reader`, `more_source`, `split`, `balance`) and `transform_param`; without
    `backend` the folder's files tell it.
    Encoded pictures keep their channels unless `force_color` or `force_gray` is set; these do nothing to raw ones.
    """

    size_hint = "Give all pictures one size, for example with convert-imageset --resize-height and -width."

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, t = self.param.data_param, self.param.transform_param
        if p.batch_size <= 0:
            raise ConfigError("data_param.batch_size must be at least 1", hint="Set data_param { batch_size: 64 }.")
        if not p.source:
            raise ConfigError("data_param.source is not set", hint="It names the folder of the database.")
        self.batch_size = p.batch_size
        if p.reader and p.HasField("backend"):
            raise ConfigError("data_param gives both reader and backend", hint="Leave out backend.")
        backend = DataParameter.DB.Name(p.backend).lower() if p.HasField("backend") else ""
        sources = [p.source, *p.more_source]
        readers = [open_database(source, p.reader or backend or guess_backend(source)) for source in sources]
        self.reader = Joined(readers) if len(readers) > 1 else readers[0]
        own = getattr(self.reader, "order", None)
        if own and (p.shuffle or p.split or p.balance or self.param.HasField("fold_param")):
            raise ConfigError(
                "a dataset has an order of its own", hint="Compose it: .shuffle(), .split(), .resample()."
            )
        self.begin_order(own or Order(len(self.reader)))
        self._channels = 3 if t.force_color else 1 if t.force_gray else 0
        self._warned: set[str] = set()
        self.begin(top, p.threads, self._begin)

    def kept(self, length: int) -> np.ndarray | None:
        folds, split = super().kept(length), self.param.data_param.split
        if not split:
            return folds
        part = part_of(split, length)
        return part if folds is None else np.intersect1d(part, folds)

    def _begin(self) -> Cursor:
        if self.param.data_param.balance:
            records = self.order.records if isinstance(self.order, Subset) else np.arange(self.length)
            self.seed = rng.draw()
            self.order = Balanced(Order(self.length, True, self.seed), records, self.column("label")[records])
        elif self.param.data_param.shuffle:
            self.seed = rng.draw()
            self.order = self.order._replace(shuffle=True, seed=self.seed)
        return Cursor()

    def fetch(self, i: int) -> Record:
        return self.reader[i]

    def decode(self, record: Record) -> tuple[np.ndarray, float]:
        key, value = record
        datum = datums.parse(value, key, self.reader.path)
        if self.with_labels and not datum.HasField("label"):
            self._warn("%s: the record has no label; it counts as 0, here and in all such records", self.place(record))
        if datum.encoded:
            return datums.picture(datum, key, self.reader.path, self._channels), datum.label
        if self._channels:
            self._warn("force_color and force_gray only for encoded datum")
        return datums.image(datum, key, self.reader.path), datum.label

    def column(self, name: str) -> np.ndarray:
        if name != "label":
            return super().column(name)
        records = (self.reader[i] for i in range(len(self.reader)))
        return np.array([self.label_of(*record) for record in records])

    def label_of(self, key: bytes, value: bytes) -> int:
        return datums.parse(value, key, self.reader.path).label

    def _warn(self, text: str, *values: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.error(text, *values)

    def place(self, record: Record) -> str:
        return datums.where(self.reader.path, record[0])
