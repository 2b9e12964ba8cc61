"""Top lists as people read them: titles, places, reasons, and what to say of those whom nobody knows."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError, DataError, did_you_mean
from caffepy.files import atomic_write
from caffepy.recommend.scorer import Reason, Scorer

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
            return self.best(self.scorer.baseline[0], np.zeros(0, int)), f'user "{word}" {what}: the baseline ranks'
        scores = self.scorer.of_all_items(np.array([user]))[0]
        return self.best(scores, self._seen(user)), ""

    def for_ratings(self, given: dict[str, float]) -> tuple[list[Entry], str]:
        """The list of somebody new with these ratings."""
        items, ratings = self._given(given)
        scores, without = self.scorer.fold_in(items, ratings)
        note = ""
        if without is None:
            note = "this model cannot take in a new user without training: the baseline ranks"
        elif without:
            note = f"{', '.join(without)} cannot take in a new user without training: the baseline stands in"
        return self.best(scores, items), note

    def _given(self, given: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """Items and ratings of somebody new. Raises ConfigError for a rating outside the scale."""
        h = self.scorer.history
        for word, rating in given.items():
            if self.scorer.members.clip and not h.low <= rating <= h.high:
                raise ConfigError(f"--ratings {word}:{rating:g} is outside the ratings' scale, {h.low:g} .. {h.high:g}")
        return np.array([self.item(word) for word in given]), np.array(list(given.values()))

    def similar(self, word: str) -> tuple[list[Entry], str]:
        """Items like one."""
        item = self.item(word)
        if not self.scorer.history.item_counts[item]:
            note = f'item "{word}" has no ratings: the baseline ranks'
            return self.best(self.scorer.baseline[0], np.array([item])), note
        return self.best(self.scorer.alike(np.array([item]))[0], np.array([item]), are_ratings=False), ""

    def why(self, user: str, item: str) -> list[str]:
        """A line for each of the user's ratings that speak for the item."""
        number = self.id_of("user", user)
        if number is None:
            return []
        return self._told(self.scorer.reasons(number, self.item(item)))

    def why_of_new(self, given: dict[str, float], item: str) -> list[str]:
        """The same of somebody new with these ratings."""
        return self._told(self.scorer.reasons_of_new(*self._given(given), self.item(item)))

    def _told(self, reasons: list[Reason]) -> list[str]:
        return [f"{self.words['item'][r.item]} {self.title(r.item)}".rstrip() + f" rated {r.rating:g}" for r in reasons]

    def of_all(self) -> Iterator[tuple[int, list[Entry]]]:
        """Each user, and the list: the baseline's for those without ratings."""
        for a in range(0, len(self.words["user"]), _USERS):
            part = range(a, min(a + _USERS, len(self.words["user"])))
            for user, scores in zip(part, self.scorer.of_all_items(np.array(part))):
                yield user, self.best(scores, self._seen(user))

    def write(self, path: str, titles: bool) -> tuple[int, int]:
        """All users' lists as CSV, the last column of which says who ranks; how many there are, and by the baseline."""
        count = cold = 0
        with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["user", "rank", "item", "score", *(["title"] if titles else []), "by"])
            for user, entries in self.of_all():
                is_known = self.scorer.history.user_counts[user] > 0
                count, cold = count + 1, cold + (not is_known)
                for rank, entry in enumerate(entries, 1):
                    more = [*([entry.title] if titles else []), "model" if is_known else "baseline"]
                    out.writerow([self.words["user"][user], rank, entry.item, f"{entry.score:.6g}", *more])
        return count, cold

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
        if not mark or not item or not math.isfinite(given[item]):
            raise ConfigError(f'--ratings "{part}" is no rating of an item', hint="Write 50:5,172:4.")
    return given
