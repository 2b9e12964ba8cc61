"""Recommenders side by side, on the same folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from caffepy.data.tables import folder as table_folder
from caffepy.data.tables.table import Column, Table, open_table
from caffepy.data.tables.writer import write_table
from caffepy.errors import DataError
from caffepy.limits import readable
from caffepy.recommend import trial
from caffepy.recommend.split import folds

COLUMNS = {
    "rmse": "RMSE", "mae": "MAE", "ndcg@10": "NDCG@10", "train": "train s", "predict": "predict s", "memory": "memory",
}  # fmt: skip


def folders_of(folder: str, count: int, seed: int, place: str) -> list[str]:
    """The pairs of tables to compare on: `folder`'s own fold1, fold2, ..., else its one pair, else `count` folds of
    all its ratings, made in `place`."""
    own = [str(path) for path in table_folder.folds_of(folder) if (path / "train.h5").is_file()]
    if own:
        return own[:count] if count else own
    if not count:
        for name in ("train.h5", "test.h5"):
            if not Path(folder, name).is_file():
                raise DataError(f"there is no {name} in it", where=folder, hint="caffepy convert-ratings writes them.")
        return [folder]
    tables = [open_table(str(path)) for path in (Path(folder, "train.h5"), Path(folder, "test.h5")) if path.is_file()]
    if not tables:
        raise DataError("there is no train.h5 in it", where=folder, hint="caffepy convert-ratings writes it.")
    return [_fold(tables, chosen, Path(place, f"fold{i}")) for i, chosen in enumerate(_chosen(tables, count, seed), 1)]


def _chosen(tables: Sequence[Table], count: int, seed: int):
    return folds(sum(map(len, tables)), count, seed)


def _fold(tables: Sequence[Table], chosen: np.ndarray, folder: Path) -> str:
    folder.mkdir(parents=True)
    first = tables[0]
    for name, rows in (("train.h5", ~chosen), ("test.h5", chosen)):
        columns = {
            key: Column(np.concatenate([table[key] for table in tables])[rows], c.size, c.vocabulary)
            for key, c in first.columns.items()
        }
        write_table(folder / name, columns, first.vocabularies, first.features)
    return str(folder)


def compare(
    zoo: str,
    models: Sequence[str],
    folders: Sequence[str],
    tell: Callable[[str, int], None],
    options: Sequence[str] = (),
) -> dict:
    """The figures of each model, the means over the folders; memory is the most. `options` are those of a trial."""
    found = {}
    for model in models:
        runs = []
        for i, folder in enumerate(folders):
            tell(model, i)
            runs.append(trial.run(zoo, model, folder, options))
        found[model] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        found[model]["memory"] = max(run["memory"] for run in runs)
    return found


def rows_of(found: Mapping[str, trial.Figures]) -> list[list[str]]:
    """The table's rows, with the names of its columns first."""
    return [["model", *COLUMNS.values()]] + [[name, *map(_shown, COLUMNS, _of(f))] for name, f in found.items()]


def _of(figures: trial.Figures) -> list[float]:
    return [figures.get(key, float("nan")) for key in COLUMNS]


def _shown(key: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    return (
        readable(int(value)) if key == "memory" else f"{value:.2f}" if key in ("train", "predict") else f"{value:.4f}"
    )
