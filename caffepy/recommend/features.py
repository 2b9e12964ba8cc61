"""What is known of items and users: titles, genres, ages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffepy.data.tables.table import Column
from caffepy.data.tables.writer import encode, encode_lists
from caffepy.errors import DataError
from caffepy.recommend.files import read_records

GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
_LAYOUTS = {
    24: ["id", "title", "released", "", "", *GENRES],  # u.item
    3: ["id", "title", "genres"],  # movies.dat
}
_USERS = {"|": ["id", "age", "gender", "occupation", "zip"], "": ["id", "gender", "age", "occupation", "zip"]}

Features = dict[str, Column]


def read_features(path: str, words: Sequence[str], kind: str) -> tuple[dict[str, list[str]], Features]:
    """The vocabularies and columns of a file about the items or users in `words`, a row for each of these.

    Columns are taken by name, or as MovieLens' files have them: what is called title stays words, what has `|` in it
    are lists, numbers are numbers, all else are ids of a vocabulary. Who is not in the file has zeros.
    """
    records = read_records(path)
    rows = [fields for _, fields in records.rows()]
    if not rows:
        raise DataError("the file names columns and has no rows", where=path)
    names = records.names or _layout(path, len(rows[0]), kind)
    names = ["id", *names[1:]]
    by_id = {fields[0].strip(): fields for fields in rows}
    if not by_id.keys() & set(words):
        raise DataError(f"none of its ids is one of the ratings' {kind}s", where=path)
    vocabularies: dict[str, list[str]] = {}
    features: Features = {}
    if set(GENRES) <= set(names):
        lists = [_flagged(by_id.get(word), names) for word in words]
        vocabularies["genres"], features["genres"] = encode_lists(lists, "genres")
    for place, name in enumerate(names):
        if name not in ("id", "", *GENRES):
            values = [_field(by_id.get(word), place) for word in words]
            found, features[name] = _column(name, values)
            if found:
                vocabularies[name] = found
    return vocabularies, features


def _layout(path: str, count: int, kind: str) -> list[str]:
    if kind == "user" and count == 5:
        return _USERS["" if path.endswith(".dat") else "|"]
    if count in _LAYOUTS:
        return _LAYOUTS[count]
    raise DataError("the file does not name its columns", where=path, hint="Write them in its first line: id,title,...")


def _flagged(fields: list[str] | None, names: list[str]) -> list[str]:
    return [name for name, value in zip(names, fields or ()) if name in GENRES and value == "1"]


def _field(fields: list[str] | None, place: int) -> str:
    return fields[place].strip() if fields and place < len(fields) else ""


def _column(name: str, values: list[str]) -> tuple[list[str], Column]:
    if name == "title":
        return [], Column(np.array(values, object))
    if any("|" in value for value in values):
        return encode_lists([value.split("|") if value else [] for value in values], name)
    try:
        return [], Column(np.array([float(value or 0) for value in values], np.float32))
    except ValueError:
        words, (column,) = encode(np.array(values), name)
        return words, column
