"""Files of ratings become tables: train.h5, test.h5."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffepy.data.tables.folder import left_over, remove
from caffepy.data.tables.table import Column
from caffepy.data.tables.writer import encode, write_table
from caffepy.errors import ConfigError, DataError
from caffepy.recommend.features import Features, read_features
from caffepy.recommend.ratings import Ratings, Reading, read_ratings
from caffepy.recommend.split import folds, split

log = logging.getLogger("caffepy.convert_ratings")

DAY = 86400
COLUMNS = ("user", "item", "rating", "timestamp", "day")


class Options(NamedTuple):
    """How to read and to divide; see `caffepy convert-ratings --help`."""

    columns: Mapping[str, str] | None = None
    scale: tuple[float, float] | None = None
    skip_bad: bool = False
    split: str = ""
    folds: int = 0
    seed: int = 0
    items: str = ""
    users: str = ""


def convert(train: str, test: str, output: str, options: Options) -> None:
    """Write train.h5 and, where there is a test, test.h5 to the folder `output`; with folds to fold1, fold2, ... in it.

    Everything is read and checked before anything is written. What an earlier conversion has left there goes.
    """
    if bool(test) + bool(options.split) + bool(options.folds) > 1:
        raise ConfigError("a TEST file, --split and --folds exclude each other")
    if options.seed < 0:
        raise ConfigError(f"--seed must be at least 0, got {options.seed}")
    given = _read(train, options)
    tested = _read(test, options) if test else None
    both = (given, tested) if tested else (given,)
    vocabularies, columns = _encoded(both)
    features = _features(vocabularies, options)
    tables = [{name: column[i] for name, column in columns.items()} for i in range(len(both))]
    folders = list(_parts(tables, given, output, options))
    earlier = left_over(output, [Path(folder, name) for folder, parts in folders for name in parts])
    for folder, parts in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, table in parts.items():
            write_table(Path(folder, name), table, vocabularies, features)
        _report(folder, parts)
    remove(earlier)


def _read(path: str, options: Options) -> Ratings:
    reading: Reading = read_ratings(path, options.columns, options.scale, options.skip_bad)
    if reading.bad:
        log.warning("%s: %d bad line(s) left out", path, reading.bad)
    if reading.duplicates:
        log.warning("%s: %d duplicate rating(s), of which the last counts", path, reading.duplicates)
    return reading.ratings


def _encoded(files: tuple[Ratings, ...]) -> tuple[dict[str, list[str]], dict[str, list[Column]]]:
    """Vocabularies of user and item, and the columns of each file."""
    vocabularies: dict[str, list[str]] = {}
    columns: dict[str, list[Column]] = {}
    for name in ("user", "item"):
        first, *more = (getattr(file, name) for file in files)
        vocabularies[name], columns[name] = encode(first, name, *more)
    columns["rating"] = [Column(file.rating) for file in files]
    times = [file.timestamp for file in files if file.timestamp is not None]
    if len(times) == len(files):
        columns["timestamp"] = [Column(time) for time in times]
        days = [np.maximum((time - times[0].min()) // DAY, 0).astype(np.int32) for time in times]
        size = 1 + int(max(day.max() for day in days))
        columns["day"] = [Column(day, size) for day in days]
    return vocabularies, columns


def _features(vocabularies: dict[str, list[str]], options: Options) -> dict[str, Features]:
    """Of items and users; what words their columns have joins the vocabularies."""
    read = {
        kind: read_features(path, vocabularies[kind], kind)
        for kind, path in (("item", options.items), ("user", options.users))
        if path
    }
    found: dict[str, Features] = {}
    for kind, (words, features) in read.items():
        others = {name for other, (_, theirs) in read.items() if other != kind for name in theirs}
        names = {name: f"{kind}_{name}" if name in {*others, *COLUMNS} else name for name in features}
        for name, new in names.items():
            if name != new:
                log.warning('"%s" of %ss is called "%s", for it is not the only column of this name', name, kind, new)
        vocabularies.update({names[name]: listed for name, listed in words.items()})
        found[kind] = {
            names[name]: Column(c.values, c.size, names.get(c.vocabulary, "")) for name, c in features.items()
        }
    return found


Parts = dict[str, dict[str, Column]]


def _parts(
    tables: list[dict[str, Column]], ratings: Ratings, output: str, options: Options
) -> Iterator[tuple[str, Parts]]:
    """Each folder and the tables that belong into it."""
    if options.folds:
        for i, chosen in enumerate(folds(len(ratings), options.folds, options.seed), 1):
            yield str(Path(output, f"fold{i}")), _divided(tables[0], chosen)
    elif options.split:
        yield output, _divided(tables[0], split(ratings, options.split, options.seed))
    else:
        yield output, dict(zip(("train.h5", "test.h5"), tables))


def _divided(table: dict[str, Column], for_test: np.ndarray) -> Parts:
    return {
        name: {key: Column(c.values[rows], c.size, c.vocabulary) for key, c in table.items()}
        for name, rows in (("train.h5", ~for_test), ("test.h5", for_test))
    }


def _report(folder: str, parts: Parts) -> None:
    for name, table in parts.items():
        users, items = (len(np.unique(table[key].values)) for key in ("user", "item"))
        log.info("%s: %d ratings, %d users, %d items", Path(folder, name), len(table["user"].values), users, items)
    if len(parts) > 1:
        for key in ("user", "item"):
            unknown = ~np.isin(parts["test.h5"][key].values, parts["train.h5"][key].values)
            if unknown.any():
                log.info(
                    "%d rating(s) of the test have %s %s that is not in train: a baseline predicts them",
                    int(unknown.sum()), "an" if key == "item" else "a", key,
                )  # fmt: skip


def parse_pair(text: str, option: str) -> tuple[float, float]:
    """`1:5` as two numbers."""
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise ConfigError(f'{option} "{text}" is no pair of numbers', hint="Write it as 1:5.") from None
    if not low < high:
        raise DataError(f'{option} "{text}": the first must be the lower one')
    return low, high
