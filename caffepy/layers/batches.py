"""Layers whose tops are batches made ahead on a background thread: what they share."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import prod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from caffepy import limits, rng
from caffepy.data.balance import Balanced
from caffepy.data.order import Cursor, Order
from caffepy.data.pictures.augment import Augmenter
from caffepy.data.pictures.data_transformer import Choice, DataTransformer
from caffepy.data.pictures.shaping import OF_OBJECTS, Shaping, refuse
from caffepy.data.pieces import Pieces
from caffepy.data.prefetch import Prefetcher
from caffepy.data.subset import Subset, records_of
from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Count, Layer
from caffepy.proto.caffe_pb2 import LayerParameter

Batch = list[np.ndarray]
Picture = tuple[int, int, int]

HELD = 3
"""Batches besides those made ahead: the net's, the one handed over, the one in the making."""


class Position(NamedTuple):
    """Where a data layer stands: what it reads next, and its generator's state."""

    cursor: Cursor
    random: Any = None


class BatchLayer(Layer):
    """Base of layers whose tops are batches made ahead: a subclass makes batch after batch from a position."""

    num_bottom = 0
    num_top: ClassVar[Count] = (1, 2)
    prefetcher: Prefetcher[Position, Batch]
    batch_size: int
    foldable: ClassVar[bool] = False
    """Whether `fold_param` is read: the layer goes through a source of `num_records` records."""
    num_records = 0
    length = 0
    """Of these, how many it reads."""
    size = 1
    """Of how many processes each reads a share."""
    filled = 1.0
    """How full the last batch was, in items: the last one of records that are held out may be smaller."""
    tells_shapes: ClassVar[bool] = True
    """Whether what is `expected` can be relied on."""

    @classmethod
    def expected(cls, param: LayerParameter, picture: Picture | None = None) -> list[tuple[int, ...] | None]:
        """The tops' shapes as far as the definition tells them, the data not being there; else None.

        `picture` (C, H, W) is assumed where it does not say how large pictures are.
        """
        return [None] * len(param.top)

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        """The host arrays of the next batch, one a top, and the position behind it. Runs on the background thread."""
        raise NotImplementedError

    def kept(self, length: int) -> np.ndarray | None:
        """Of the source's `length` records those that the layer reads, as `fold_param` has it; None: all."""
        self.num_records = length
        return records_of(self.param.fold_param, length) if self.param.HasField("fold_param") else None

    def column(self, name: str) -> np.ndarray:
        """A value for each record of the source, whichever the layer reads: its label, its user."""
        hint = 'Its records have a "label". HDF5Data and TableData have columns of any name.'
        raise ConfigError(f'{self.type} knows no "{name}" of its records', hint=hint)

    def due(self, cursor: Cursor, length: int) -> int:
        """How many of `length` records come next: a batch, or what is left of those that are held out."""
        left = length - cursor.index if self.param.fold_param.held_out else self.batch_size
        return min(self.batch_size, left)

    def start(self, position: Position, depth: int, top: list[Blob]) -> None:
        """Shape the tops by the first batch and begin to read ahead."""
        if self.param.HasField("fold_param") and not self.foldable:
            raise ConfigError(f"{self.type} reads no fold_param")
        self.check_memory(position, depth)
        batch, _ = self.make(position, None)
        for blob, values in zip(top, batch):
            blob.reshape(values.shape)
        this = weakref.proxy(self)  # else layer and prefetcher keep each other alive
        self.prefetcher = Prefetcher(lambda position, recycled: this.make(position, recycled), position, depth)

    def check_memory(self, position: Position, depth: int) -> None:
        """Raises ConfigError if `depth` batches made ahead are more than there may be, before the first is made."""
        count, item = self.items(position)
        ahead = max(1, depth) + HELD
        limits.check(
            4 * count * item * ahead,
            f"keeping {ahead} batches of {count} items of {item} values",
            ConfigError,
            hint="Lower batch_size, or data_param.prefetch; or allow more with --max-memory.",
        )

    def items(self, position: Position) -> tuple[int, int]:
        """How many items a batch has, and how many values one of them."""
        raise NotImplementedError

    def shard(self, rank: int, size: int) -> None:
        """Read only what is due to process `rank` of `size`, without overlap. To be called before training."""
        raise NotImplementedError

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """The tops take the shape of every batch as it comes."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.param.fold_param.held_out:
            self.filled = self.due(self.prefetcher.state.cursor, self.length) / self.batch_size
        batch = self.prefetcher.next()
        for blob, values in zip(top, batch):
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


class PictureLayer(BatchLayer):
    """Base of layers that read labelled pictures: data (N, C, H, W) and, in a second top, labels (N).

    A subclass says how record i is fetched (in order, on one thread) and decoded (on `threads` of them), and may say
    what else than a number a label is. The shape of a batch is that of its first picture after cropping; all others
    must come out alike.
    """

    order: Order | Subset | Balanced
    foldable = True
    seed = 0
    """Of what Caffe does not draw: augmentation and the order of records."""
    refused_fields: ClassVar[tuple[str, ...]] = OF_OBJECTS
    """Fields of `transform_param` that the layer does not read."""

    def begin_order(self, order: Order) -> None:
        """Go through the source's records in this order, or through those of them that the layer reads."""
        records = self.kept(order.length)
        self.order = order if records is None else Subset(order, records)
        self.length = self.order.length

    @classmethod
    def expected(cls, param: LayerParameter, picture: Picture | None = None) -> list[tuple[int, ...] | None]:
        size = cls.expected_batch(param)
        found = cls.expected_picture(param, picture)
        labels = [cls.expected_label(size, found), (size, 1, 1, 2)]
        return [(size, *found) if found else None, *labels][: len(param.top)]

    @classmethod
    def expected_batch(cls, param: LayerParameter) -> int:
        return param.data_param.batch_size

    @classmethod
    def expected_picture(cls, param: LayerParameter, picture: Picture | None) -> Picture | None:
        """A picture as it leaves the layer: cropped, else resized, else as it came."""
        t = param.transform_param
        channels = 1 if t.force_gray else 3 if t.force_color or len(t.mean_value) == 3 else (picture or (3,))[0]
        height = t.crop_h or t.crop_size or t.resize_param.height
        width = t.crop_w or t.crop_size or t.resize_param.width
        return (channels, height, width) if height and width else picture

    @classmethod
    def expected_label(cls, size: int, picture: Picture | None) -> tuple[int, ...] | None:
        """The second top of a batch of this size."""
        return (size,)

    def fetch(self, i: int) -> Any:
        """What there is of record `i` without decoding it."""
        raise NotImplementedError

    def decode(self, record: Any) -> tuple[np.ndarray, Any]:
        """Picture (C, H, W) and label."""
        raise NotImplementedError

    def place(self, record: Any) -> str:
        """Where a record is, for messages."""
        raise NotImplementedError

    def begin(self, top: list[Blob], threads: int, before_start: Callable[[], Cursor]) -> None:
        """Draw the seeds in Caffe's order, with the subclass's own in between, and start reading ahead."""
        refuse(self.param.transform_param, self.refused_fields, self.type)
        self.transformer = DataTransformer(self.param.transform_param, self.phase)
        self.augmenter = Augmenter(self.param.transform_param, self.phase)
        self.shaping = Shaping(self.param.transform_param)
        self.with_labels = len(top) > 1
        if threads < 1:
            raise ConfigError("threads must be at least 1", hint="Leave it out for one thread.")
        self._pieces = Pieces(threads)
        if self.transformer.random:
            rng.draw()  # Caffe seeds twice and uses the second
        cursor = before_start()
        random = rng.mt19937(rng.draw()).bit_generator.state if self.transformer.random else None
        rng.draw()  # Caffe seeds the thread with it; the fillers that follow depend on how many were drawn
        if self.draws:
            self.seed = self.seed or rng.draw()
        self.start(Position(cursor, random), self.param.data_param.prefetch, top)

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        indices, cursor = self.order.advance(position.cursor, self.due(position.cursor, self.order.length))
        records = [self.fetch(i) for i in indices]
        randoms = [self._augmentation(position.cursor, k) for k in range(len(records))]
        decoded = self._pieces.map(self.prepare, records, randoms)
        images = [image for image, _ in decoded]
        shape = self._common_shape(images, records)
        random = rng.mt19937(0) if position.random is not None else None
        if random is not None:
            random.bit_generator.state = position.random
        choices = [self.transformer.draw(image.shape, random) for image in images]
        batch = [new_array(recycled, 0, (len(images), *shape))]
        self._pieces.run(
            len(images), lambda part: self._finish(images[part], choices[part], randoms[part], batch[0][part])
        )
        if self.with_labels:
            batch += self.label_arrays([label for _, label in decoded], images, choices, recycled)
        return batch, Position(cursor, random and random.bit_generator.state)

    def items(self, position: Position) -> tuple[int, int]:
        """By the first picture that is due: all others must come out alike."""
        (first,), _ = self.order.advance(position.cursor, 1)
        record = self.fetch(first)
        try:
            image, _ = self.prepare(record, self._augmentation(position.cursor, 0))
            return self.batch_size, prod(self.transformer.shape(image.shape))
        except ShapeError as error:
            raise error.at(self.place(record)) from None

    def _augmentation(self, cursor: Cursor, k: int) -> np.random.Generator | None:
        if not self.draws:
            return None
        return np.random.default_rng([self.seed, *cursor, self.order.rank, k])

    def prepare(self, record: Any, random: np.random.Generator | None) -> tuple[np.ndarray, Any]:
        """Picture and label of a record, changed at random."""
        image, label = self.decode(record)
        return (image, label) if random is None else self.change(image, label, random, self.place(record))

    @property
    def draws(self) -> bool:
        """Whether `change` does something, so that every picture has random numbers of its own."""
        return self.augmenter.active or self.shaping.active

    def change(self, image: np.ndarray, label: Any, random: np.random.Generator, where: str) -> tuple[np.ndarray, Any]:
        """The picture before it is cropped and mirrored, and what is known of it: in TRAIN augmented, then resized."""
        if self.augmenter.active:
            image = self.augmenter.before(image, random, where)
        return self.shaping(image, random, where), label

    def label_arrays(
        self, given: list[Any], images: list[np.ndarray], choices: list[Choice], recycled: Batch | None
    ) -> list[np.ndarray]:
        """The tops behind the first, from what is known of the pictures and how they were cropped and mirrored."""
        out = new_array(recycled, 1, (len(given),))
        out[...] = given
        return [out]

    def _finish(
        self,
        images: list[np.ndarray],
        choices: list[Choice],
        randoms: list[np.random.Generator | None],
        out: np.ndarray,
    ) -> None:
        self.transformer.apply_all(images, choices, out)
        for target, random in zip(out, randoms):
            self.augmenter.after(target, random if self.augmenter.active else None)

    def _common_shape(self, images: list[np.ndarray], records: list[Any]) -> tuple[int, int, int]:
        """The shape of the batch; raises ShapeError and DataError with the record that has another."""
        shapes: dict[tuple[int, ...], tuple[int, int, int]] = {}
        for image, record in zip(images, records):
            if image.shape not in shapes:
                try:
                    shapes[image.shape] = self.transformer.shape(image.shape)
                except ShapeError as error:
                    raise error.at(self.place(record)) from None
            if shapes[image.shape] != shapes[images[0].shape]:
                raise DataError(
                    f"the picture has shape {image.shape}, the batch began with {images[0].shape}",
                    where=self.place(record),
                    hint=self.size_hint,
                )
        return shapes[images[0].shape]

    size_hint = ""

    def shard(self, rank: int, size: int) -> None:
        self.size = size
        self.order = self.order._replace(rank=rank, size=size)
        self.prefetcher.restart(self.prefetcher.state)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed = state.get("seed", self.seed)
        self.order = self.order._replace(seed=self.seed)
        self.order.check(Cursor(*state["position"][0]))
        super().set_state(state)


def new_array(recycled: Batch | None, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array (N, C, H, W) stored channels-last, or of fewer axes; the recycled one if it fits."""
    if recycled is not None and recycled[i].shape == shape:
        return recycled[i]
    if len(shape) == 4:
        n, c, h, w = shape
        return np.empty((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
    return np.empty(shape, np.float32)
