"""Data: batches of pictures and labels from a database, read ahead on a background thread."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from caffepy import rng
from caffepy.blob import Blob
from caffepy.data import datum as datums
from caffepy.data.lmdb import LmdbReader
from caffepy.data.order import Cursor, Order
from caffepy.data.prefetch import Prefetcher
from caffepy.data.transformer import Transformer
from caffepy.errors import CaffeError, ConfigError, DataError
from caffepy.layer import Layer, register
from caffepy.proto.caffe_pb2 import DataParameter

Batch = list[np.ndarray]


class Position(NamedTuple):
    """Where a data layer stands: what it reads next, and its generator's state."""

    cursor: Any
    random: Any = None


class BatchLayer(Layer):
    """Base of layers whose tops are batches made ahead: a subclass makes batch after batch from a position."""

    num_bottom = 0
    num_top = (1, 2)
    prefetcher: Prefetcher | None = None

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        """The host arrays of the next batch, one a top, and the position behind it. Runs on the background thread."""
        raise NotImplementedError

    def start(self, position: Position, depth: int, top: list[Blob]) -> None:
        """Shape the tops by the first batch and begin to read ahead."""
        batch, _ = self.make(position, None)
        for blob, values in zip(top, batch):
            blob.reshape(values.shape)
        self.prefetcher = Prefetcher(self.make, position, depth)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """The tops take the shape of every batch as it comes."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob, values in zip(top, self.prefetcher.next()):
            blob.reshape(values.shape)
            blob.data[...] = self.engine.asarray(values)

    def state(self) -> dict[str, Any]:
        return {"position": self.prefetcher.state}

    def set_state(self, state: dict[str, Any]) -> None:
        cursor, random = state["position"]
        self.prefetcher.restart(Position(Cursor(*cursor), random))

    @property
    def data_wait(self) -> float:
        """Seconds that forward has waited for data so far."""
        return self.prefetcher.wait


def new_array(recycled: Batch | None, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array (N, C, H, W) stored channels-last, or of fewer axes; the recycled one if it fits."""
    if recycled is not None and recycled[i].shape == shape:
        return recycled[i]
    if len(shape) == 4:
        n, c, h, w = shape
        return np.empty((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
    return np.empty(shape, np.float32)


@register("Data")
class Data(BatchLayer):
    """Batches from an LMDB or LevelDB of Datum records: data (N, C, H, W) and, in a second top, labels (N).

    Records are read in key order and from the start again at the end; a batch may span the wrap. Reads `data_param`
    (`source`, `backend`, `batch_size`, `prefetch`) and `transform_param`.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.data_param
        if p.batch_size <= 0:
            raise ConfigError("data_param.batch_size must be at least 1")
        if not p.source:
            raise ConfigError("data_param.source is not set")
        self.reader = open_database(p)
        self.order = Order(len(self.reader))
        self.transformer = Transformer(self.param.transform_param, self.phase)
        random = None
        if self.transformer.random:
            rng.draw()  # Caffe draws twice and seeds with the second
            random = rng.mt19937(rng.draw()).bit_generator.state
        self.with_labels = len(top) > 1
        rng.draw()  # Caffe seeds the thread with it; the fillers that follow depend on how many were drawn
        self.start(Position(Cursor(), random), p.prefetch, top)

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        indices, cursor = self.order.advance(position.cursor, self.param.data_param.batch_size)
        source = self.param.data_param.source
        images, labels, keys = [], [], []
        for i in indices:
            key, value = self.reader[i]
            datum = datums.parse(value, key, source)
            images.append(self.decode(datum, key, source))
            labels.append(datum.label)
            keys.append(key)
            if images[-1].shape != images[0].shape:
                raise DataError(
                    f"the picture has shape {images[-1].shape}, the batch began with {images[0].shape}",
                    where=datums.where(source, key),
                    hint="Give all pictures one size, for example with convert-imageset --resize-height and -width.",
                )
        try:
            shape = self.transformer.shape(images[0].shape)
        except CaffeError as error:
            raise error.at(datums.where(source, keys[0])) from None
        random = rng.mt19937(0) if position.random is not None else None
        if random is not None:
            random.bit_generator.state = position.random
        choices = [self.transformer.draw(image.shape, random) for image in images]
        batch = [new_array(recycled, 0, (len(images), *shape))]
        self.transformer.apply_all(images, choices, batch[0])
        if self.with_labels:
            batch.append(new_array(recycled, 1, (len(images),)))
            batch[1][...] = labels
        return batch, Position(cursor, random and random.bit_generator.state)

    def decode(self, datum, key: bytes, source: str) -> np.ndarray:
        return datums.image(datum, key, source)


def open_database(p: DataParameter) -> LmdbReader:
    if p.backend == DataParameter.LMDB:
        return LmdbReader(p.source)
    raise ConfigError("LevelDB is not supported yet", hint="Set backend: LMDB (the default is LEVELDB, as in Caffe).")
