"""A model against the ratings of a test: errors of the ratings, and full rankings."""

from __future__ import annotations

import numpy as np

from caffepy.data.tables.table import Table, open_table
from caffepy.errors import DataError
from caffepy.recommend.metrics import Rankings
from caffepy.recommend.scorer import Scorer

_USERS = 64


def _open(test: str, scorer: Scorer) -> Table:
    """Raises DataError for a test without ratings, or of users and items that have other numbers than the model's."""
    table = open_table(test)
    if not len(table):
        raise DataError("the test has no ratings", where=test)
    for name in ("user", "item"):
        if table.vocabulary(name) != scorer.table.vocabulary(name):
            raise DataError(
                f"its {name}s are numbered otherwise than those of {scorer.table.path}",
                where=test,
                hint="Both must come from one convert-ratings.",
            )
    return table


def ranking_metrics(scorer: Scorer, test: str, k: int, relevant: float, exclude_seen: bool = True) -> dict[str, float]:
    """Precision, recall, NDCG and the like at k of the table `test`, whose ratings from `relevant` on are hits."""
    table = _open(test, scorer)
    hits = table["rating"] >= relevant if "rating" in table.columns else np.ones(len(table), bool)
    user, item, h = table["user"][hits], table["item"][hits], scorer.history
    users, rankings = np.unique(user), Rankings(k)
    for a in range(0, len(users), _USERS):
        part = users[a : a + _USERS]
        scores = scorer.of_all_items(part)
        wanted = np.zeros(scores.shape, bool)
        rows = np.searchsorted(part, user[np.isin(user, part)])
        wanted[rows, item[np.isin(user, part)]] = True
        if exclude_seen:
            for row, one in enumerate(part):
                scores[row, h.item[h.starts[one] : h.starts[one + 1]]] = -np.inf
        rankings.add(scores, wanted)
    return rankings.value()


def rating_errors(scorer: Scorer, test: str) -> dict[str, float]:
    """RMSE and MAE of the ratings of the table `test`."""
    table = _open(test, scorer)
    day = table["day"] if "day" in scorer.data.names else None
    error = scorer.scores(table["user"], table["item"], day) - table["rating"]
    return {"rmse": float(np.sqrt(np.mean(error.astype(float) ** 2))), "mae": float(np.abs(error).mean())}
