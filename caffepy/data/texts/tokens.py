"""Tokens of a text, or of labelled sentences: from a text file, or from the file that convert-text has made of one.

tokens  (L,) integers, ids of the vocabulary; attributes `size` and `fingerprint` of that, and `kind`:
        NEXT, one text; SENTENCE, sentences with a label; TOKEN, words with tags
ends    (S,) where sentence i ends
labels  (S,) of sentences, (L,) of words
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from caffepy.data.tables.writer import MARK
from caffepy.data.texts.vocabulary import ListVocabulary, Vocabulary
from caffepy.errors import ConfigError, DataError
from caffepy.files import atomic_write, near_names, new_hdf5, open_file, read_file
from caffepy.hdf5 import open_hdf5

NEXT, SENTENCE, TOKEN = "NEXT", "SENTENCE", "TOKEN"
_MAGIC = b"\x89HDF"
_HINT = "caffepy convert-text writes such files."


class TextTokens(NamedTuple):
    """Sentence i is tokens[ends[i - 1] : ends[i]], the first from 0; a text is one sentence without labels."""

    path: str
    kind: str
    tokens: np.ndarray
    ends: np.ndarray
    labels: np.ndarray

    @classmethod
    def of_text(cls, path: str, tokens: np.ndarray) -> TextTokens:
        return cls(path, NEXT, tokens, np.array([len(tokens)]), tokens[:0])


class LabelledLine(NamedTuple):
    """A labelled sentence of a file."""

    where: str
    text: str
    labels: list[str]


def open_tokens(path: str, vocabulary: Vocabulary, kind: str) -> TextTokens:
    """What the file holds, which has to be of this kind. Raises DataError for what is empty or does not fit."""
    try:
        with open_file(path) as file:
            made = file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise DataError(f"cannot read the text: {error.strerror}", where=path, hint=near_names(path)) from None
    found = _read(path, vocabulary, kind) if made else encode_file(path, vocabulary, kind)
    if not len(found.tokens):
        raise DataError("the text is empty", where=path)
    return found


def encode_file(path: str, vocabulary: Vocabulary, kind: str) -> TextTokens:
    """The tokens of a text file."""
    if kind == NEXT:
        return TextTokens.of_text(path, vocabulary.encode(text_of(path, vocabulary.level)))
    return encode_lines(path, lines_of(path, kind, vocabulary.level), vocabulary, kind)


def encode_lines(path: str, lines: Sequence[LabelledLine], vocabulary: Vocabulary, kind: str) -> TextTokens:
    """Sentences and their labels as ids. Raises DataError, with the line, for labels that are unknown."""
    rows = [_ids(line, vocabulary, kind) for line in lines]
    labels = []
    for line in lines:
        try:
            labels += [vocabulary.label(name) for name in line.labels]
        except ValueError as error:
            raise DataError(str(error), where=line.where) from None
    flat = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    return TextTokens(path, kind, flat, np.cumsum([len(row) for row in rows]), np.array(labels, np.int32))


def _ids(line: LabelledLine, vocabulary: Vocabulary, kind: str) -> np.ndarray:
    if kind == TOKEN:
        assert isinstance(vocabulary, ListVocabulary)
        return vocabulary.ids(line.text.split())
    found = vocabulary.encode(line.text)
    if not len(found):
        raise DataError("the sentence is empty", where=line.where)
    return found


def text_of(path: str, level: str) -> str:
    """A file's text; at level BYTE of any bytes, else UTF-8, its lines ended by `\\n` whatever ends them there."""
    try:
        if level == "BYTE":
            return read_file(path).decode("utf-8", "surrogateescape")
        return read_file(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise DataError(f"cannot read the text: {error.strerror}", where=path, hint=near_names(path)) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start} is no UTF-8", where=path, hint="Convert the file, or use level BYTE, which reads any."
        ) from None


def lines_of(path: str, kind: str, level: str) -> list[LabelledLine]:
    """Labelled sentences, `SENTENCE<tab>LABEL` or `WORD WORD ...<tab>TAG TAG ...`; empty lines are skipped."""
    if kind == TOKEN and level != "WORD":
        raise ConfigError(f"labels: TOKEN needs level WORD, not {level}", hint="A tag belongs to a word.")
    lines = []
    for number, line in enumerate(text_of(path, level).split("\n"), 1):
        line = line.rstrip("\r")  # which level BYTE leaves
        if not line.strip():
            continue
        where = f"{path}:{number}"
        words, tab, label = line.rpartition("\t")
        if not tab:
            raise DataError("the line has no label", where=where, hint="A tab stands between sentence and label.")
        labels = label.split() if kind == TOKEN else [label.strip()]
        if kind == TOKEN and len(labels) != len(words.split()):
            raise DataError(f"the line has {len(words.split())} words and {len(labels)} tags", where=where)
        lines.append(LabelledLine(where, words, labels))
    return lines


def _read(path: str, vocabulary: Vocabulary, kind: str) -> TextTokens:
    with open_hdf5(path) as file:
        if "tokens" not in file:
            raise DataError("this is no file of tokens", where=path, hint=_HINT)
        data = file.dataset("tokens")
        size, mark = int(data.attributes.get("size", 0)), str(data.attributes.get("fingerprint", ""))
        if (size, mark) != (vocabulary.size, vocabulary.fingerprint):
            raise DataError(
                f"its tokens are of another vocabulary, of {size} tokens; that of the layer has {vocabulary.size}",
                where=path,
                hint="Give the vocabulary.json that convert-text wrote beside it.",
            )
        made = str(data.attributes.get("kind", ""))
        if missing := [name for name in _ARRAYS if name not in file]:
            raise DataError(f'the file of tokens has no "{missing[0]}"', where=path, hint=_HINT)
        found = TextTokens(path, made, *(file.dataset(name).numbers() for name in _ARRAYS))
    if not _is_whole(found, size):
        raise DataError("the file of tokens is damaged", where=path, hint=_HINT)
    if made != kind:
        raise DataError(
            f"the file holds {_ASKED[made]}, labels: {kind} asks for {_ASKED[kind]}", where=path,
            hint=f"Set labels: {made}, or convert the text with --labels {kind}.",
        )  # fmt: skip
    return found


_ARRAYS = ("tokens", "ends", "labels")
_ASKED = {NEXT: "one text", SENTENCE: "sentences with a label", TOKEN: "words with tags"}


def _is_whole(found: TextTokens, size: int) -> bool:
    if found.kind not in _ASKED or any(a.ndim != 1 or a.dtype.kind not in "iu" for a in found[2:]):
        return False
    count = {NEXT: 0, SENTENCE: len(found.ends), TOKEN: len(found.tokens)}[found.kind]
    inside = not len(found.tokens) or 0 <= found.tokens.min() <= found.tokens.max() < size
    ordered = len(found.ends) > 0 and found.ends[-1] == len(found.tokens) and (np.diff(found.ends, prepend=0) > 0).all()
    return bool(inside and ordered and len(found.labels) == count)


def write(path: str | os.PathLike[str], found: TextTokens, vocabulary: Vocabulary) -> None:
    """Write the file of tokens, whole or not at all."""
    smallest = next(kind for kind in (np.uint8, np.uint16, np.int32) if vocabulary.size - 1 <= np.iinfo(kind).max)
    with atomic_write(path) as temporary, new_hdf5(temporary) as file:
        file.attrs[MARK] = True
        data = file.create_dataset("tokens", data=found.tokens.astype(smallest))
        attributes = {"size": vocabulary.size, "fingerprint": vocabulary.fingerprint, "kind": found.kind}
        data.attrs.update(attributes)
        file.create_dataset("ends", data=found.ends)
        file.create_dataset("labels", data=found.labels)
