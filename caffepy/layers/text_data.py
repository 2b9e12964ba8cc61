"""TextData: text as batches of tokens."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from caffepy import rng
from caffepy.data.order import Cursor
from caffepy.data.texts import vocabulary as vocabularies
from caffepy.data.texts.buckets import Buckets
from caffepy.data.texts.order import Streams, Windows
from caffepy.data.texts.tokens import NEXT, TOKEN, open_tokens
from caffepy.data.texts.vocabulary import VOCABULARY, Vocabulary
from caffepy.errors import ConfigError, DataError, did_you_mean
from caffepy.layers.batches import Batch, BatchLayer, Picture, Position
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.proto.caffe_pb2 import LayerParameter, TextDataParameter

DATA, LABEL, CONT, LENGTHS, MASK = COLUMNS = ("data", "label", "cont", "lengths", "mask")
IGNORED = -1
"""The label of what fills sentences up: `loss_param { ignore_label: -1 }`."""


@register("TextData")
class TextData(BatchLayer):
    """Tokens of the text `text_data_param.source`, each in the top of its name, in the layout of recurrent layers.

    `data` (T, N) are ids of the `vocabulary`, `label` (T, N) those that follow, `cont` (T, N) is 0 where a text begins,
    else 1. The text is read as N = `batch_size` streams side by side, T = `time_steps` tokens a batch, and from its
    start again; with `shuffle`, as windows of T tokens in an order of their own every epoch.

    `labels: SENTENCE`, a line of the source is a sentence and, behind a tab, its label: `label` (N,). `labels: TOKEN`,
    words and a tag for each: `label` (T, N), -1 behind the end. Sentences are padded with 0 to a multiple of `bucket`;
    `lengths` (N,) are theirs, `mask` (T, N) is 1 on tokens, `cont` is 0 on the first and behind the last. With
    `shuffle` the sentences of a batch are of like length. Embed learns how many tokens there are.

    Raises DataError for an empty text, one that is shorter than a batch, a vocabulary that is none or another one's.
    """

    num_top = (1, None)
    recordable = False
    tells_shapes = False

    @classmethod
    def expected(cls, param: LayerParameter, picture: Picture | None = None) -> list[tuple[int, ...] | None]:
        """Sentences as if they were as long as they may be."""
        p = param.text_data_param
        steps, items = p.time_steps or 1, p.batch_size or 1
        flat = {LENGTHS, LABEL} if p.labels == TextDataParameter.SENTENCE else {LENGTHS}
        return [(items,) if name in flat else (steps, items) for name in list(p.columns) or list(param.top)]

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.text_data_param
        self.kind = TextDataParameter.Labels.Name(p.labels)
        self._check()
        self.vocabulary = open_vocabulary(p)
        p.fingerprint = self.vocabulary.fingerprint
        self.text = open_tokens(p.source, self.vocabulary, self.kind)
        self.batch_size = p.batch_size
        self.seed = rng.draw() if p.shuffle else 0
        self.rank, self.size = 0, 1
        self.order = self._order()
        self.start(Position(Cursor()), p.prefetch, top)
        for blob, name in zip(top, self.names):
            blob.num_ids = self.vocabulary.size if name == DATA else 0

    def _check(self) -> None:
        p = self.param.text_data_param
        if not p.source:
            raise ConfigError("text_data_param.source is not set", hint='It names a text: "train.h5", "train.txt".')
        if not p.batch_size:
            raise ConfigError("text_data_param.batch_size must be at least 1")
        if self.kind == NEXT and not p.time_steps:
            raise ConfigError("text_data_param.time_steps must be at least 1", hint="It is the length of a batch.")
        self.names = list(p.columns) or list(self.param.top)
        if len(self.names) != len(self.param.top):
            raise ConfigError(f"{len(self.names)} columns for {len(self.param.top)} tops: give one for each, or none")
        for name in self.names:
            if name not in COLUMNS:
                hint = did_you_mean(name, COLUMNS) or f"There are {', '.join(COLUMNS)}; columns says which a top holds."
                raise ConfigError(f'TextData has no "{name}"', hint=hint)

    def _order(self) -> Streams | Windows | Buckets:
        p, tokens = self.param.text_data_param, self.text.tokens
        if self.kind != NEXT:
            return Buckets(self._lengths, p.batch_size, p.shuffle, self.seed, self.rank, self.size)
        order: Streams | Windows
        if p.shuffle:
            order = Windows(len(tokens), p.batch_size, p.time_steps, self.seed, self.rank, self.size)
        else:
            order = Streams(len(tokens), p.batch_size, p.time_steps, self.rank, self.size)
        if order.batches < 1:
            more = f" in each of {self.size} processes" if self.size > 1 else ""
            raise DataError(
                f"the text has {len(tokens)} tokens, too few for {p.batch_size} parts of {p.time_steps} tokens{more}",
                where=p.source,
                hint="Lower batch_size or time_steps.",
            )
        return order

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], self.text.ends[:-1]])

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Of the sentences, as far as they are read."""
        whole = self.text.ends - self._starts
        most = self.param.text_data_param.time_steps
        return np.minimum(whole, most) if most else whole

    # Batches

    def items(self, position: Position) -> tuple[int, int]:
        p = self.param.text_data_param
        steps = p.time_steps if self.kind == NEXT else self._padded(int(self._lengths.max()))
        return p.batch_size, steps * len(self.names)

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        order = self.order
        if isinstance(order, Buckets):
            sentences, cursor = order.take(position.cursor)
            values = self._sentences(sentences)
        else:
            starts, goes_on, cursor = order.take(position.cursor)
            values = self._parts(starts, goes_on)
        return [values[name].astype(np.float32) for name in self.names], Position(cursor)

    def _parts(self, starts: np.ndarray, goes_on: bool) -> dict[str, np.ndarray]:
        steps, count = self.param.text_data_param.time_steps, len(starts)
        places = np.arange(steps)[:, None] + starts
        cont = np.ones((steps, count))
        cont[0] = goes_on
        return {
            DATA: self.text.tokens[places], LABEL: self.text.tokens[places + 1], CONT: cont,
            LENGTHS: np.full(count, steps), MASK: np.ones((steps, count)),
        }  # fmt: skip

    def _sentences(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        lengths = self._lengths[chosen]
        steps = np.arange(self._padded(int(lengths.max())))[:, None]
        mask = steps < lengths
        places = np.where(mask, steps + self._starts[chosen], 0)
        tags = self.text.labels
        label = np.where(mask, tags[places], IGNORED) if self.kind == TOKEN else tags[chosen]
        data = np.where(mask, self.text.tokens[places], 0)
        return {DATA: data, LABEL: label, CONT: mask & (steps > 0), LENGTHS: lengths, MASK: mask}

    def _padded(self, length: int) -> int:
        p = self.param.text_data_param
        padded = -(-length // max(1, p.bucket)) * max(1, p.bucket)
        return min(padded, p.time_steps) if p.time_steps else padded

    # Several processes, resuming

    def shard(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.order = self._order()
        self.prefetcher.restart(self.prefetcher.state)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]
        self.order = self._order()
        batches = self.order.batches if isinstance(self.order, Streams) else 0
        if batches and state["position"][0][1] >= batches:
            raise ValueError(f"it stands at batch {state['position'][0][1]} of {batches}")
        super().set_state(state)


def open_vocabulary(p: TextDataParameter) -> Vocabulary:
    """The vocabulary that a TextData reads its text by."""
    level = TextDataParameter.Level.Name(p.level) if p.HasField("level") else ""
    path, beside = p.vocabulary, Path(p.source).with_name(VOCABULARY)
    if not path and level == "BYTE":
        return vocabularies.ByteVocabulary()
    if not path and not beside.is_file():
        raise ConfigError(
            "text_data_param.vocabulary is not set, and none lies beside the source",
            hint="caffepy convert-text makes one; level: BYTE needs none.",
        )
    return vocabularies.read(path or str(beside), level)
