"""Texts that come as an input: as the ids of their tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffepy.data.texts import vocabulary as vocabularies
from caffepy.serve.refusal import invalid


class TextInput:
    """Texts to ids (N, T) of the vocabulary in a file, those of shorter ones behind their end 0."""

    def __init__(self, path: Path):
        self.vocabulary = vocabularies.read(str(path))

    def __call__(self, name: str, values: np.ndarray) -> np.ndarray:
        """Of texts as bytes, an item each. Raises Refused for empty ones."""
        rows = [self.vocabulary.encode(_text(name, value)) for value in values.ravel()]
        for i, row in enumerate(rows):
            if not len(row):
                raise invalid(f'text {i} of the input "{name}" is empty')
        out = np.zeros((len(rows), max(map(len, rows), default=0)), np.float32)
        for target, row in zip(out, rows):
            target[: len(row)] = row
        return out


def _text(name: str, value: Any) -> str:
    try:
        return bytes(value).decode()
    except (UnicodeDecodeError, TypeError):
        raise invalid(f'the input "{name}" takes texts in UTF-8') from None
