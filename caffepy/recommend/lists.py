"""Top lists as people read them: titles, places, reasons, and what to say of those whom nobody knows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError, DataError, did_you_mean
from caffepy.files import atomic_write
from caffepy.recommend.scorer import Scorer

_USERS = 64
"""Users whose scores of all items are held at once."""


class Entry(NamedTuple):
    item: str
    score: float
    title: str


class Lists:
    """Recommendations of a Scorer in the words of its table."""

    def __init__(self, scorer: Scorer, top: int, exclude_seen: bool):
        self.scorer, self.top, self.exclude_seen = scorer, top, exclude_seen
        table = scorer.table
        self.words = {name: table.vocabulary(name) for name in ("user", "item")}
        self.ids = {name: {word: i for i, word in enumerate(words)} for name, words in self.words.items()}
        found = table.feature("title")
        self.titles = found[1].values if found else None

    def title(self, item: int) -> str:
        return str(self.titles[item]) if self.titles is not None else ""

    def id_of(self, name: str, word: str) -> int | None:
        return self.ids[name].get(word)

    def item(self, word: str) -> int:
        """Raises DataError with the nearest word for one that is not in the vocabulary."""
        found = self.id_of("item", word)
        if found is None:
            raise DataError(f'the item "{word}" is not known', hint=did_you_mean(word, self.ids["item"]))
        return found

    def best(self, scores: np.ndarray, without: np.ndarray, are_ratings: bool = True) -> list[Entry]:
        """The best items by scores (I,)."""
        shown = self.scorer.on_scale if are_ratings else float
        scores = np.array(scores, float)
        scores[without] = -np.inf
        order = np.argsort(-scores, kind="stable")[: self.top]
        return [Entry(self.words["item"][i], shown(scores[i]), self.title(i)) for i in order if np.isfinite(scores[i])]

    def for_user(self, word: str) -> tuple[list[Entry], str]:
        """The list of a user, and what there is to say of it."""
        user = self.id_of("user", word)
        if user is None or not self.scorer.history.user_counts[user]:
            what = "is not known" if user is None else "has no ratings to learn from"
            return self.best(self.scorer.baseline()[0], np.zeros(0, int)), f'user "{word}" {what}: the baseline ranks'
        scores = self.scorer.of_all_items(np.array([user]))[0]
        return self.best(scores, self._seen(user)), ""

    def for_ratings(self, given: dict[str, float]) -> tuple[list[Entry], str]:
        """The list of somebody new with these ratings."""
        items = np.array([self.item(word) for word in given])
        scores, by_model = self.scorer.fold_in(items, np.array(list(given.values())))
        note = "" if by_model else "this model cannot take in a new user without training: the baseline ranks"
        return self.best(scores, items), note

    def similar(self, word: str) -> tuple[list[Entry], str]:
        """Items like one."""
        item = self.item(word)
        if not self.scorer.history.item_counts[item]:
            return self.best(
                self.scorer.baseline()[0], np.array([item])
            ), f'item "{word}" has no ratings: the baseline ranks'
        return self.best(self.scorer.alike(np.array([item]))[0], np.array([item]), are_ratings=False), ""

    def why(self, user: str, item: str) -> list[str]:
        """A line for each of the user's ratings that speak for the item."""
        number = self.id_of("user", user)
        if number is None:
            return []
        reasons = self.scorer.reasons(number, self.item(item))
        return [f"{self.words['item'][r.item]} {self.title(r.item)}".rstrip() + f" rated {r.rating:g}" for r in reasons]

    def of_all(self) -> Iterator[tuple[str, list[Entry]]]:
        """Each user with ratings, and the list."""
        users = np.flatnonzero(self.scorer.history.user_counts)
        for a in range(0, len(users), _USERS):
            part = users[a : a + _USERS]
            for user, scores in zip(part, self.scorer.of_all_items(part)):
                yield self.words["user"][user], self.best(scores, self._seen(user))

    def write(self, path: str, titles: bool) -> int:
        """All users' lists as CSV; how many there are."""
        count = 0
        with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["user", "rank", "item", "score", *(["title"] if titles else [])])
            for user, entries in self.of_all():
                count += 1
                for rank, entry in enumerate(entries, 1):
                    more = [entry.title] if titles else []
                    out.writerow([user, rank, entry.item, f"{entry.score:.6g}", *more])
        return count

    def _seen(self, user: int) -> np.ndarray:
        h = self.scorer.history
        return h.item[h.starts[user] : h.starts[user + 1]] if self.exclude_seen else np.zeros(0, int)


def parse_ratings(text: str) -> dict[str, float]:
    """`50:5,172:4` as ratings by item. Raises ConfigError for what is none."""
    given = {}
    for part in text.split(","):
        item, mark, rating = part.strip().rpartition(":")
        try:
            given[item] = float(rating)
        except ValueError:
            mark = ""
        if not mark or not item:
            raise ConfigError(f'--ratings "{part}" is no rating of an item', hint="Write 50:5,172:4.")
    return given
