"""Text that goes on from a prompt."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, TypedDict

import numpy as np

from caffepy.data.texts.vocabulary import Vocabulary, read
from caffepy.errors import ConfigError, DataError
from caffepy.generate import beam as beams
from caffepy.generate.sampling import Sampling
from caffepy.generate.stepper import Stepper
from caffepy.net.net import Net

log = logging.getLogger("caffepy.generate")

_CONTEXT = 16
"""Tokens before a new one that what it adds to the text may depend on."""
_LONGEST = 4
"""Bytes of a character of UTF-8."""


@dataclass(frozen=True)
class TextRequest:
    """How much text, and how its tokens are chosen."""

    length: int = 500
    """In tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    beam: int = 1
    """More than 1: beam search with so many sequences, which draws nothing."""
    seed: int | None = None
    stop: str = ""
    """The token that ends the text."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"length must be at least 1, got {self.length}")
        if self.beam < 1:
            raise ConfigError(f"beam must be at least 1, got {self.beam}")
        if self.beam > 1 and self.sampling != Sampling():
            raise ConfigError("beam search draws no tokens: temperature, top_k and top_p do nothing")


class TextChoice(TypedDict, total=False):
    """How tokens are chosen: see `Sampling` and `TextRequest`."""

    temperature: float
    top_k: int
    top_p: float
    beam: int
    stop: str


def generate(
    net: Net,
    prompt: str,
    length: int,
    vocabulary: str | PathLike[str] | Vocabulary,
    seed: int | None = None,
    beam: int = 1,
    stop: str = "",
    **sampling: Any,
) -> str:
    """The text behind the prompt."""
    known = vocabulary if isinstance(vocabulary, Vocabulary) else read(fspath(vocabulary))
    return "".join(pieces(net, known, prompt, TextRequest(length, Sampling(**sampling), beam, seed, stop)))


def pieces(net: Net, vocabulary: Vocabulary, prompt: str, wanted: TextRequest) -> Iterator[str]:
    """The text behind the prompt, piece by piece as it is made.

    Characters of the prompt that the vocabulary lacks are replaced, which is reported. Raises DataError for a
    vocabulary of another size than the net's output.
    """
    stepper = Stepper(net)
    if stepper.size != vocabulary.size:
        raise DataError(
            f'the vocabulary has {vocabulary.size} tokens, the output "{net.outputs[-1]}" of the net {stepper.size}',
            hint="Give the vocabulary.json of the text that the weights were trained on.",
        )
    tokens, end = read_prompt(vocabulary, prompt), _end(vocabulary, wanted.stop)
    return _decoded(
        Decoder(vocabulary, tokens.tolist()), _tokens(stepper, tokens, wanted, 1 if vocabulary.unknown else 0, end)
    )


def _decoded(decoder: Decoder, tokens: Iterable[int]) -> Iterator[str]:
    for token in tokens:
        yield decoder.add(token)
    yield decoder.rest()


def _tokens(stepper: Stepper, prompt: np.ndarray, wanted: TextRequest, hidden: int, end: int) -> Iterator[int]:
    """The tokens behind the prompt; those below `hidden`, which stand for unknown ones, are not made."""
    with stepper.begun(len(prompt) + wanted.length):
        if wanted.beam > 1:
            yield from beams.search(stepper, prompt, wanted.length, wanted.beam, hidden, end)
            return
        random = np.random.default_rng(wanted.seed)
        read = prompt[:, None]
        for _ in range(wanted.length):
            scores = np.array(stepper.engine.to_host(stepper.read(read))[0])
            scores[:hidden] = -np.inf
            token = wanted.sampling.draw(scores, random)
            if token == end:
                return
            yield token
            read = np.array([[token]])


def read_prompt(vocabulary: Vocabulary, prompt: str) -> np.ndarray:
    """Its tokens; an empty one is a line break, so that something comes before the text."""
    if missing := vocabulary.missing(prompt):
        log.warning(
            "the vocabulary lacks %s of the prompt: read as %s", ", ".join(map(repr, missing)), vocabulary.unknown
        )
    return vocabulary.encode(prompt or "\n")


def _end(vocabulary: Vocabulary, stop: str) -> int:
    if not stop:
        return -1
    found = vocabulary.encode(stop)
    if len(found) != 1 or vocabulary.missing(stop):
        raise ConfigError(f"stop must be one token of the vocabulary, {stop!r} is {len(found) or 'none'}")
    return int(found[0])


class Decoder:
    """The text that each token adds to those before it."""

    def __init__(self, vocabulary: Vocabulary, before: Sequence[int]):
        self.vocabulary = vocabulary
        self._ids = [int(i) for i in before[-_CONTEXT:]]
        self._waiting = 0

    def add(self, token: int) -> str:
        """Empty while the bytes of a character are not complete."""
        self._ids.append(token)
        self._waiting += 1
        found = self._new()
        if found.endswith("\ufffd") and self._waiting < _LONGEST:
            return ""
        self._waiting = 0
        self._ids = self._ids[-_CONTEXT:]
        return found

    def rest(self) -> str:
        """What is left at the end: bytes that are no character."""
        return self._new() if self._waiting else ""

    def _new(self) -> str:
        count = len(self._ids) - self._waiting
        return self.vocabulary.decode(self._ids)[len(self.vocabulary.decode(self._ids[:count])) :]
