"""Texts to vocabularies and files of tokens, for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffepy.data.tables.folder import left_over, remove
from caffepy.data.tables.splits import bounds, parts
from caffepy.data.texts import tokens as files
from caffepy.data.texts import vocabulary as vocabularies
from caffepy.data.texts.tokens import NEXT, TOKEN, LabelledLine, TextTokens
from caffepy.data.texts.vocabulary import VOCABULARY, Vocabulary
from caffepy.errors import DataError
from caffepy.files import atomic_write

LABELS = "labels.txt"


class TextTask(NamedTuple):
    """What becomes of texts."""

    level: str
    labels: str = NEXT
    size: int = 0
    """Of the vocabulary, at most; 0: whatever it needs."""
    vocabulary: str = ""
    """The file of one that is there already."""
    split: str = ""
    seed: int = 0


def convert(paths: Sequence[str], task: TextTask) -> tuple[Vocabulary, dict[str, TextTokens]]:
    """The vocabulary of the part to train on, and all parts as tokens.

    One text is divided where its shares end, labelled lines after a permutation.
    """
    if task.labels != NEXT:
        return _lines(paths, task)
    text = "".join(files.text_of(path, task.level) for path in paths)
    if not text:
        raise DataError("the text is empty", where=", ".join(paths))
    texts = {part: text[a:b] for part, (a, b) in bounds(task.split, len(text)).items()}
    known = _known(task) or vocabularies.learn(task.level, texts["train"], task.size)
    return known, {part: TextTokens.of_text(part, known.encode(each)) for part, each in texts.items()}


def _lines(paths: Sequence[str], task: TextTask) -> tuple[Vocabulary, dict[str, TextTokens]]:
    lines = [line for path in paths for line in files.lines_of(path, task.labels, task.level)]
    if not lines:
        raise DataError("the text is empty", where=", ".join(paths))
    rows = parts(task.split, len(lines), task.seed)
    chosen = {part: [lines[i] for i in which] for part, which in rows.items()}
    known = _known(task) or _learned(chosen["train"], sorted({name for line in lines for name in line.labels}), task)
    return known, {part: files.encode_lines(part, each, known, task.labels) for part, each in chosen.items()}


def _known(task: TextTask) -> Vocabulary | None:
    return vocabularies.read(task.vocabulary, task.level) if task.vocabulary else None


def _learned(lines: Sequence[LabelledLine], labels: list[str], task: TextTask) -> Vocabulary:
    if task.labels == TOKEN:
        words = chain.from_iterable(line.text.split() for line in lines)
        return vocabularies.of_tokens("WORD", words, task.size, labels)
    return vocabularies.learn(task.level, "\n".join(line.text for line in lines), task.size, labels)


def unknown(found: TextTokens, vocabulary: Vocabulary) -> float:
    """The share of tokens that the vocabulary lacks."""
    return float(np.mean(found.tokens == 0)) if vocabulary.unknown else 0.0


def write(folder: str, vocabulary: Vocabulary, found: dict[str, TextTokens]) -> dict[str, str]:
    """Write `vocabulary.json`, `train.h5` and so on, and `labels.txt`, to the folder; the paths of the h5, by part."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    earlier = left_over(folder, [Path(folder, f"{part}.h5") for part in found])
    vocabularies.write(str(Path(folder, VOCABULARY)), vocabulary)
    if vocabulary.labels:  # as caffepy publish takes them
        with atomic_write(Path(folder, LABELS)) as temporary:
            Path(temporary).write_text("".join(f"{name}\n" for name in vocabulary.labels), "utf-8")
    paths = {part: str(Path(folder, f"{part}.h5")) for part in found}
    for part, path in paths.items():
        files.write(path, found[part], vocabulary)
    remove(earlier)
    return paths
