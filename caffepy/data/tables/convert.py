"""CSV files to tables for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffepy.data.tables.columns import Made, Spec, make
from caffepy.data.tables.csv import Words
from caffepy.data.tables.folder import left_over, remove
from caffepy.data.tables.table import Column
from caffepy.data.tables.writer import write_table
from caffepy.errors import ConfigError

CATEGORIES, DENSE = "categories", "dense"


def convert(words: Words, specs: Sequence[Spec], rows: dict[str, np.ndarray]) -> dict[str, Made]:
    """The columns of the table, and two that join others.

    `categories` (N, F): the ids of all categories and buckets, those of each behind those of the ones before, so that
    one Embed has the rows of all. `dense` (N, D): all standardised numbers.
    """
    wanted = [spec for spec in specs if spec.kind != "skip"]
    made = {spec.name: make(spec, words, rows["train"]) for spec in wanted}
    ids = {spec.name: made[spec.name] for spec in wanted if made[spec.name].column.size}
    numbers = [made[spec.name].column.values for spec in wanted if spec.kind in ("dense", "log")]
    joined = dict(made)
    for name in (CATEGORIES, DENSE):
        if name in made:
            raise ConfigError(
                f'--columns: "{name}" is what the table calls columns that are joined',
                hint=f"Give it another name: my_{name}={name}:KIND.",
            )
    if ids:
        joined[CATEGORIES] = _joined(ids)
    if numbers:
        joined[DENSE] = Made(Column(np.stack(numbers, axis=1)), [])
    return joined


def _joined(ids: dict[str, Made]) -> Made:
    offsets = np.cumsum([0, *(one.column.size for one in ids.values())])
    values = np.stack([one.column.values + offset for one, offset in zip(ids.values(), offsets)], axis=1)
    vocabulary = [f"{name}={word}" for name, one in ids.items() for word in one.vocabulary]
    return Made(Column(values.astype(np.int32), int(offsets[-1]), CATEGORIES), vocabulary)


def write(folder: str, made: dict[str, Made], rows: dict[str, np.ndarray]) -> list[str]:
    """Write `train.h5` and so on to the folder, from which those of an earlier conversion go; their paths."""
    earlier = left_over(folder, [Path(folder, f"{part}.h5") for part in rows])
    Path(folder).mkdir(parents=True, exist_ok=True)
    vocabularies = {name: one.vocabulary for name, one in made.items() if one.vocabulary}
    paths = []
    for part, chosen in rows.items():
        path = str(Path(folder) / f"{part}.h5")
        columns = {
            name: Column(one.column.values[chosen], one.column.size, one.column.vocabulary)
            for name, one in made.items()
        }
        write_table(path, columns, vocabularies)
        paths.append(path)
    remove(earlier)
    return paths
