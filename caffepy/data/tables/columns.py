"""What a column of words becomes: ids, buckets, standardised numbers, labels.

age:log                                log(1 + x), then as dense
wage:dense                             (x - mean) / deviation
education:category                     ids 1 .. of the words of the training rows, 0 for all others
hour:bucket:8                          ids of 8 ranges with as many rows each, then one for missing values, if any
hour:bucket:6;12;18                    ids of the ranges between boundaries, and the same
weight:number                          as it stands, in every row
never_married=marital_stat:label:Never married    1 where the column has this word, else 0
year:skip                              not in the table
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from caffepy.data.tables.csv import Words
from caffepy.data.tables.table import Column, check_name
from caffepy.errors import ConfigError, DataError, did_you_mean
from caffepy.files import read_text

OTHER = "<other>"
MISSING = ("", "?")
"""No number, as nan is none: the mean of a dense column, an id of its own in a bucketed one."""
NO_NUMBER = "<missing>"


class Spec(NamedTuple):
    name: str
    """In the table."""
    source: str
    """In the file."""
    kind: str
    argument: str


class Made(NamedTuple):
    column: Column
    vocabulary: list[str]
    """Of ids: what they stand for."""


def parse(text: str) -> list[Spec]:
    """The columns that `--columns` asks for: a list with commas, or a file with one a line, `#` before comments."""
    if os.path.exists(text) and not os.path.isdir(text):  # a pipe, too; a long list is no name and does not exist
        parts = [line.partition("#")[0].strip() for line in read_text(text).splitlines()]
    else:
        parts = [part.strip() for part in text.split(",")]
    specs = [_parse(part) for part in parts if part]
    names = [spec.name for spec in specs if spec.kind != "skip"]
    if not names:
        raise ConfigError("--columns names no column", hint='For example --columns "age:dense,city:category".')
    for name in names:
        check_name(name, hint=f"Give it another name: NEW={name}:KIND.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f'--columns names "{twice[0]}" twice', hint=f"Call one of them otherwise: NEW={twice[0]}:KIND."
        )
    return specs


def _parse(part: str) -> Spec:
    names, _, rest = part.partition(":")
    kind, _, argument = rest.partition(":")
    name, _, source = names.rpartition("=")
    kind = kind.strip() or "category"
    if kind not in KINDS and kind != "skip":
        hint = did_you_mean(kind, [*KINDS, "skip"]) or f"There are {', '.join(KINDS)} and skip."
        raise ConfigError(f'--columns: "{part}" has the unknown kind "{kind}"', hint=hint)
    return Spec((name or source).strip(), source.strip(), kind, argument.strip())


def make(spec: Spec, words: Words, training: np.ndarray) -> Made:
    """The column of the table; what is learned from rows is learned from those of `training` alone."""
    return KINDS[spec.kind](spec, words, training)


def _category(spec: Spec, words: Words, training: np.ndarray) -> Made:
    found = words.columns[spec.source]
    known = np.unique(found[training].astype(str))
    place = np.minimum(np.searchsorted(known, found.astype(str)), max(0, len(known) - 1))
    ids = np.where(known[place] == found.astype(str), place + 1, 0)
    vocabulary = [OTHER, *known.tolist()]
    return Made(Column(ids.astype(np.int32), len(vocabulary), spec.name), vocabulary)


def _numbers(spec: Spec, words: Words) -> np.ndarray:
    found = words.columns[spec.source]
    out = np.empty(len(found))
    for row, word in enumerate(found):
        try:
            out[row] = np.nan if word in MISSING else float(word)
        except ValueError:
            raise DataError(
                f'"{word}" in column "{spec.source}" is no number',
                where=words.where(row),
                hint=f"Make it {spec.source}:category, or {spec.source}:skip.",
            ) from None
    return out


def _standardised(values: np.ndarray, training: np.ndarray) -> Made:
    known = values[training][np.isfinite(values[training])]
    mean, deviation = (known.mean(), known.std()) if known.size else (0.0, 0.0)
    scaled = (values - mean) / (deviation or 1.0)
    return Made(Column(np.where(np.isfinite(scaled), scaled, 0).astype(np.float32)), [])


def _dense(spec: Spec, words: Words, training: np.ndarray) -> Made:
    return _standardised(_numbers(spec, words), training)


def _log(spec: Spec, words: Words, training: np.ndarray) -> Made:
    values = _numbers(spec, words)
    if (values <= -1).any():
        row = int(np.argmax(values <= -1))
        raise DataError(f'log(1 + x) of {values[row]:g} in column "{spec.source}"', where=words.where(row))
    return _standardised(np.log1p(values), training)


def _number(spec: Spec, words: Words, training: np.ndarray) -> Made:
    values = _numbers(spec, words).astype(np.float32)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f'"{words.columns[spec.source][row]}" in column "{spec.source}" is no finite number',
            where=words.where(row),
            hint=f"Make it {spec.source}:dense, where what is missing is the mean, or {spec.source}:bucket:10.",
        )
    return Made(Column(values), [])


def _bucket(spec: Spec, words: Words, training: np.ndarray) -> Made:
    values = _numbers(spec, words)
    try:
        if ";" in spec.argument:
            bounds = np.unique([float(bound) for bound in spec.argument.split(";")])
        else:
            shares = np.arange(1, int(spec.argument)) / int(spec.argument)
            known = values[training][np.isfinite(values[training])]
            bounds = np.unique(np.quantile(known, shares)) if len(known) else np.zeros(0)
    except ValueError:
        raise ConfigError(
            f'--columns: "{spec.source}:bucket:{spec.argument}" needs a number of buckets, or boundaries',
            hint=f"{spec.source}:bucket:10, or {spec.source}:bucket:18;25;40.",
        ) from None
    edges, missing = [f"{bound:g}" for bound in bounds], np.isnan(values)
    vocabulary = [f"{low} .. {high}" for low, high in zip(["", *edges], [*edges, ""])]
    ids = np.where(missing, len(vocabulary), np.searchsorted(bounds, values, side="right")).astype(np.int32)
    vocabulary += [NO_NUMBER] * bool(missing.any())
    return Made(Column(ids, len(vocabulary), spec.name), vocabulary)


def _label(spec: Spec, words: Words, training: np.ndarray) -> Made:
    found = words.columns[spec.source] == spec.argument
    if not found.any():
        some = sorted(set(words.columns[spec.source]))
        hint = did_you_mean(spec.argument, some) or f"It has {', '.join(some[:10])}."
        raise ConfigError(f'--columns: no row of "{spec.source}" is "{spec.argument}"', hint=hint)
    return Made(Column(found.astype(np.float32)), [])


KINDS: dict[str, Callable[[Spec, Words, np.ndarray], Made]] = {
    "category": _category, "bucket": _bucket, "dense": _dense, "log": _log, "number": _number, "label": _label,
}  # fmt: skip
