"""Ratings, or clicks, from a file: who, what, how much, when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError, DataError, did_you_mean
from caffepy.recommend.files import Records, plain, read_records

NAMES = {
    "user": ("user", "userid", "uid", "reviewerid", "visitorid"),
    "item": ("item", "itemid", "movieid", "iid", "asin", "productid", "songid", "bookid"),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "timestamp": ("timestamp", "time", "unixtime", "ts"),
}
"""What columns are called, without capitals and signs."""
_SKIP = "--skip-bad leaves such lines out and counts them."
_LATEST = 10**11
"""Seconds: the year 5138. What is beyond are no seconds."""


class Ratings(NamedTuple):
    """One entry a rating: words for user and item, float32, int64 seconds (None where the file has no times)."""

    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray | None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Ratings:
        times = None if self.timestamp is None else self.timestamp[rows]
        return Ratings(self.user[rows], self.item[rows], self.rating[rows], times)


class Reading(NamedTuple):
    ratings: Ratings
    bad: int
    """Lines left out."""
    duplicates: int
    """Ratings of the same user and item that a later one replaced."""


def read_ratings(
    path: str,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] | None = None,
    skip_bad: bool = False,
) -> Reading:
    """The ratings of a file; clicks, whose file has no rating, are ratings of 1.

    Without names in its first line the columns are user, item, rating, timestamp, as many as that line has; `columns`
    says what they are called.
    Raises DataError with the line of a bad one, and for a file without any rating.
    """
    records = read_records(path)
    places = _places(records, columns or {})
    kept, bad = [], 0
    for number, line in records.lines:
        try:
            kept.append(_entry(records.fields(line), places, scale))
        except ValueError as error:
            if not skip_bad:
                raise DataError(str(error), where=f"{path}:{number}", hint=_SKIP) from None
            bad += 1
    if not kept:
        raise DataError("the file holds no ratings", where=path)
    user, item, rating, time = zip(*kept)
    times = np.array(time, np.int64) if "timestamp" in places else None
    all_ratings = Ratings(np.array(user), np.array(item), np.array(rating, np.float32), times)
    last = _last_of_each(all_ratings)
    return Reading(all_ratings.take(last), bad, len(all_ratings) - len(last))


def _entry(
    fields: list[str], places: Mapping[str, int], scale: tuple[float, float] | None
) -> tuple[str, str, float, int]:
    """Raises ValueError with what is wrong."""
    missing = next((name for name, place in places.items() if place >= len(fields)), None)
    if missing:
        raise ValueError(f"the line has {len(fields)} field(s), none for the {missing}")
    user, item = fields[places["user"]].strip(), fields[places["item"]].strip()
    if not user or not item:
        raise ValueError(f"the {'item' if user else 'user'} is empty")
    rating = _number(fields, places, "rating", 1.0)
    if scale and not scale[0] <= rating <= scale[1]:
        raise ValueError(f"the rating {rating:g} is outside the scale {scale[0]:g} .. {scale[1]:g}")
    time = _number(fields, places, "timestamp", 0.0)
    if abs(time) >= _LATEST:
        raise ValueError(f"the timestamp {fields[places['timestamp']]} is no time in seconds{_finer(time)}")
    return user, item, rating, int(time)


def _finer(time: float) -> str:
    """What finer unit it would be a time of this century in."""
    for unit, factor in (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)):
        if 0 < time / factor < 4.2e9:
            return f"; it may be {unit}: divide by {factor:.0f}"
    return ""


def _number(fields: list[str], places: Mapping[str, int], name: str, default: float) -> float:
    if name not in places:
        return default
    text = fields[places[name]]
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f'the {name} "{text}" is no number') from None
    if not math.isfinite(value):
        raise ValueError(f"the {name} is {text}")
    return value


def _places(records: Records, columns: Mapping[str, str]) -> dict[str, int]:
    """Where each of user, item, rating, timestamp stands in a line."""
    if unknown := columns.keys() - NAMES.keys():
        raise ConfigError(f'there is no column "{min(unknown)}" to name', hint=f"Known: {', '.join(NAMES)}.")
    if not records.names:
        if columns:
            raise DataError("the file does not name its columns", where=records.path, hint="Leave out --columns.")
        return {name: i for i, name in enumerate(NAMES) if i < max(2, records.width)}
    places = {}
    for name, known in NAMES.items():
        wanted = (plain(columns[name]),) if name in columns else known
        found = next((records.names.index(word) for word in wanted if word in records.names), None)
        if found is not None:
            places[name] = found
        elif name in columns or name in ("user", "item"):
            word = columns.get(name, name)
            hint = did_you_mean(word, records.names) or "Say what it is called: --columns user=...,item=...,rating=..."
            raise DataError(f'the file has no column "{word}" for the {name}', where=records.path, hint=hint)
    return places


def _last_of_each(ratings: Ratings) -> np.ndarray:
    """The rows that no later one of the same user and item replaces, in their order."""
    _, users = np.unique(ratings.user, return_inverse=True)
    words, items = np.unique(ratings.item, return_inverse=True)
    pairs = users.astype(np.int64) * len(words) + items
    _, last = np.unique(pairs[::-1], return_index=True)
    return np.sort(len(pairs) - 1 - last)
