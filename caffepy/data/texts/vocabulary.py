"""A vocabulary: which tokens a text is made of, and their ids 0 .. size - 1.

    {"level": "CHAR", "tokens": ["\\ufffd", "\\n", " ", "a", ...], "labels": ["negative", "positive"]}

is its file. CHAR and WORD list their tokens, the first standing for all that are unknown; BYTE has none to list; BPE
has the `tokenizer` of the package tokenizers. `labels` are those of sentences or words, where there are some.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from caffepy.errors import ConfigError, DataError, MissingExtraError, did_you_mean
from caffepy.files import atomic_write, near_names, read_text

VOCABULARY = "vocabulary.json"
"""What the file is called."""
LEVELS = ("CHAR", "WORD", "BYTE", "BPE")


class Vocabulary:
    """Text to ids and back."""

    level: ClassVar[str]
    size: int
    unknown: str = ""
    """What unknown tokens are replaced by, the token of id 0; empty where none is unknown."""

    def __init__(self, labels: Sequence[str] = ()):
        self.labels = list(labels)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text (L,), int32."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8 are replaced by U+FFFD."""
        raise NotImplementedError

    def missing(self, text: str) -> list[str]:
        """The tokens of a text that are unknown, each once."""
        return []

    @property
    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {"level": self.level}

    @cached_property
    def fingerprint(self) -> str:
        """Equal for vocabularies of the same tokens, whatever the labels."""
        text = json.dumps(self.content, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def label(self, name: str) -> int:
        """The id of a label; a number where no labels are listed. Raises ValueError with the nearest name."""
        if not self.labels:
            if name.isascii() and name.isdigit():
                return int(name)
            raise ValueError(f'the label "{name}" is no number, and the vocabulary lists no labels')
        if name not in self.labels:
            raise ValueError(" ".join([f'unknown label "{name}".', did_you_mean(name, self.labels)]).rstrip(" ."))
        return self.labels.index(name)


class ListVocabulary(Vocabulary):
    """A list of tokens: characters, or words."""

    def __init__(self, tokens: Sequence[str], labels: Sequence[str] = ()):
        super().__init__(labels)
        self.tokens = list(tokens)
        self.size = len(self.tokens)
        self.unknown = self.tokens[0]
        self._id = {token: i for i, token in enumerate(self.tokens)}

    @classmethod
    def split(cls, text: str) -> Sequence[str]:
        """The tokens of a text."""
        raise NotImplementedError

    def ids(self, tokens: Iterable[str]) -> np.ndarray:
        """Of tokens that are split already."""
        return np.fromiter((self._id.get(token, 0) for token in tokens), np.int32)

    def encode(self, text: str) -> np.ndarray:
        return self.ids(self.split(text))

    def missing(self, text: str) -> list[str]:
        return [token for token in dict.fromkeys(self.split(text)) if token not in self._id]

    @property
    def content(self) -> dict[str, Any]:
        return {"level": self.level, "tokens": self.tokens}


class CharVocabulary(ListVocabulary):
    level = "CHAR"

    @classmethod
    def split(cls, text: str) -> Sequence[str]:
        return text

    def encode(self, text: str) -> np.ndarray:
        given = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        codes, ids = self._sorted
        places = np.minimum(np.searchsorted(codes, given), len(codes) - 1)
        return np.where(codes[places] == given, ids[places], 0).astype(np.int32)

    @cached_property
    def _sorted(self) -> np.ndarray:
        """The codes of the characters in their order, and the ids of these, (2, V)."""
        return np.array(sorted((ord(token), i) for i, token in enumerate(self.tokens))).T

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.tokens[i] for i in ids)


_WORD = re.compile(r"\w+|[^\w\s]|\n")
_CLOSING = set(".,;:!?)]}%'\u2019\u201d")
_OPENING = set("([{'\u2018\u201c")


class WordVocabulary(ListVocabulary):
    """Words, punctuation marks and line breaks; in text made of them blanks stand where they usually do."""

    level = "WORD"

    @classmethod
    def split(cls, text: str) -> list[str]:
        return _WORD.findall(text)

    def decode(self, ids: Iterable[int]) -> str:
        out, before = "", "\n"
        for i in ids:
            token = self.tokens[i]
            joined = before in _OPENING or before == "\n" or token == "\n" or token in _CLOSING
            out += token if joined else f" {token}"
            before = token
        return out


class ByteVocabulary(Vocabulary):
    level = "BYTE"
    size = 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8).astype(np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")


class BpeVocabulary(Vocabulary):
    """Pieces of words by byte-pair encoding of their bytes (Sennrich et al. 2016), by the package tokenizers."""

    level = "BPE"

    def __init__(self, tokenizer: dict[str, Any], labels: Sequence[str] = ()):
        super().__init__(labels)
        self._content = tokenizer
        try:
            self._tokenizer = _tokenizers().Tokenizer.from_str(json.dumps(tokenizer))
        except MissingExtraError:
            raise
        except Exception as error:  # the package raises Exception itself
            raise ValueError(f"tokenizers refuses it: {error}") from None
        self.size = self._tokenizer.get_vocab_size()

    @classmethod
    def train(cls, text: str, size: int, labels: Sequence[str] = ()) -> BpeVocabulary:
        package = _tokenizers()
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = package.decoders.ByteLevel()
        trainer = package.trainers.BpeTrainer(
            vocab_size=size, show_progress=False, initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator([text], trainer)
        return cls(json.loads(tokenizer.to_str()), labels)

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text).ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    @property
    def content(self) -> dict[str, Any]:
        return {"level": self.level, "tokenizer": self._content}


def _tokenizers():
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError("tokenizers", "text", "level BPE") from None
    return tokenizers


LISTED: dict[str, type[ListVocabulary]] = {"CHAR": CharVocabulary, "WORD": WordVocabulary}
UNKNOWN = {"CHAR": "\ufffd", "WORD": "<unk>"}
LEAST_PIECES = 256
"""Every byte is one, so that no text has unknown ones."""
PIECES = 2048


def learn(level: str, text: str, size: int = 0, labels: Sequence[str] = ()) -> Vocabulary:
    """The vocabulary of a text, of at most `size` tokens (0: as many as there are; of BPE `PIECES`).

    Tokens that are left out, the rarest, are unknown.
    """
    if level == "BYTE":
        return ByteVocabulary(labels)
    if level == "BPE":
        if size and size < LEAST_PIECES:
            raise ConfigError(f"--vocab-size of BPE is at least {LEAST_PIECES}, the bytes: got {size}")
        return BpeVocabulary.train(text, size or PIECES, labels)
    return of_tokens(level, LISTED[level].split(text), size, labels)


def of_tokens(level: str, tokens: Iterable[str], size: int = 0, labels: Sequence[str] = ()) -> ListVocabulary:
    """The vocabulary of tokens, as `learn`; in the order of letters, so that it does not depend on that of the text."""
    counts = Counter(tokens)
    counts.pop(UNKNOWN[level], None)
    kept = sorted(counts, key=lambda token: (-counts[token], token))[: size - 1 if size else None]
    return LISTED[level]([UNKNOWN[level], *sorted(kept)], labels)


def read(path: str, level: str = "") -> Vocabulary:
    """The vocabulary in a file. Raises DataError for what is none, or of another level."""
    hint = "caffepy convert-text writes such files."
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise DataError(
            f"cannot read the vocabulary: {error.strerror}", where=path, hint=near_names(path) or hint
        ) from None
    except (ValueError, RecursionError):
        raise DataError("this is no vocabulary", where=path, hint=hint) from None
    try:
        found = _of_content(content)
    except ValueError as error:
        raise DataError(f"this is no vocabulary: {error}", where=path, hint=hint) from None
    if level and level != found.level:
        raise DataError(
            f"the vocabulary is of level {found.level}, level: {level} is asked for",
            where=path,
            hint="Leave level out, or make another vocabulary with caffepy convert-text --level.",
        )
    return found


def _of_content(content: Any) -> Vocabulary:
    """Raises ValueError with the reason."""
    if not isinstance(content, dict) or content.get("level") not in LEVELS:
        raise ValueError(f'it has no "level" of {", ".join(LEVELS)}')
    level, labels = content["level"], content.get("labels", [])
    if not _are_words(labels):
        raise ValueError('"labels" is no list of different words')
    if level == "BYTE":
        return ByteVocabulary(labels)
    if level == "BPE":
        return BpeVocabulary(content.get("tokenizer", {}), labels)
    tokens = content.get("tokens")
    if not tokens or not _are_words(tokens):
        raise ValueError('"tokens" is no list of different words')
    if level == "CHAR" and any(len(token) != 1 for token in tokens):
        raise ValueError('"tokens" of level CHAR are characters')
    return LISTED[level](tokens, labels)


def _are_words(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) for v in values) and len({*values}) == len(values)


def write(path: str, vocabulary: Vocabulary) -> None:
    """Write its file, whole or not at all."""
    labels = {"labels": vocabulary.labels} if vocabulary.labels else {}
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump({**vocabulary.content, **labels}, file, ensure_ascii=True, indent=1)
        file.write("\n")
