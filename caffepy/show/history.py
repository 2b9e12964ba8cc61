"""What a training log tells, ours or Caffe's: rows of outputs over iterations."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from caffepy.errors import DataError
from caffepy.files import atomic_write, near_names, read_text

Row = dict[str, float]
"""NumIters, Seconds, LearningRate, then the outputs by name."""

_STAMP = re.compile(r"^[IWEF](\d{4} \d\d:\d\d:\d\d\.\d+) ")
_ITERATION = re.compile(r"Iteration (\d+)")
_LOSS = re.compile(r"Iteration \d+.*, loss = (\S+)")
_RATE = re.compile(r"lr = ([-+\d.eE]+)")
_OUTPUT = re.compile(r"(Train|Test) net output #(\d+): (\S+) = (\S+)")


class LoggedRun(NamedTuple):
    """A run as its log tells it."""

    name: str
    train: list[Row]
    test: list[Row]
    losses: list[tuple[float, float]]
    """Iterations and smoothed losses."""


def read_log(path: str | PathLike[str]) -> LoggedRun:
    """Read a log of `train`. Raises DataError where no iteration is in it.

    Of iterations that a resumed run has repeated the last values count.
    """
    train, test = _Rows(), _Rows()
    losses: dict[float, float] = {}
    iteration, rate, clock, begins = -1.0, math.nan, _Clock(), False
    for line in _lines(path):
        clock.look(line)
        begins |= "Solving" in line
        if found := _ITERATION.search(line):
            now = float(found[1])
            if begins or now < iteration:  # resumed, perhaps
                train.forget(now)
                test.forget(now)
                losses = {i: loss for i, loss in losses.items() if i < now}
            iteration, begins = now, False
        if found := _LOSS.search(line):
            losses[iteration] = float(found[1])
        if found := _RATE.search(line):
            rate = float(found[1])
        if (found := _OUTPUT.search(line)) and iteration >= 0:
            rows = train if found[1] == "Train" else test
            if found[2] == "0" or rows.iteration != iteration:
                rows.start(iteration, clock.seconds, rate)
            rows.set(found[3], float(found[4]))
    if iteration < 0:
        raise DataError("this is no log of a training: it tells of no iteration", where=str(path))
    return LoggedRun(Path(path).stem, train.done(), test.done(), sorted(losses.items()))


def _lines(path: str | PathLike[str]) -> list[str]:
    try:
        return read_text(path).splitlines()
    except OSError as error:
        raise DataError(f"cannot read the log: {error.strerror}", where=str(path), hint=near_names(path)) from None


def write_csv(rows: Iterable[Row], path: str | PathLike[str], delimiter: str = ",") -> None:
    """As Caffe's parse_log.py writes them; rows of several test nets have columns of their own."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, names, delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def logs_in(path: str | PathLike[str]) -> list[Path]:
    """The file itself, or the logs in a folder. Raises DataError where there is none."""
    path = Path(path)
    found = sorted(path.glob("*.log")) if path.is_dir() else [path]
    if not found:
        raise DataError("there is no .log in this folder", where=str(path), hint="caffepy train --log FILE writes one.")
    return found


class _Clock:
    """Seconds since training began, from lines that tell no year."""

    def __init__(self) -> None:
        self.seconds = math.nan
        self._began: datetime | None = None
        self._now: datetime | None = None

    def look(self, line: str) -> None:
        if not (found := _STAMP.match(line)):
            return
        year = self._now.year if self._now is not None else 2000
        now = datetime.strptime(f"{year}{found[1]}", "%Y%m%d %H:%M:%S.%f")
        if self._now is not None and now < self._now - timedelta(days=1):
            now = now.replace(year=year + 1)
        self._now = now
        if self._began is None and "Solving" in line:
            self._began = now
        if self._began is not None:
            self.seconds = (now - self._began).total_seconds()


class _Rows:
    """Rows as their outputs come, line by line; of an output of several values the last stays, as in Caffe's CSV."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    @property
    def iteration(self) -> float:
        return self._rows[-1]["NumIters"] if self._rows else -1

    def start(self, iteration: float, seconds: float, rate: float) -> None:
        self._rows.append({"NumIters": iteration, "Seconds": seconds, "LearningRate": rate})

    def set(self, name: str, value: float) -> None:
        self._rows[-1][name] = value

    def forget(self, iteration: float) -> None:
        """Rows from this iteration on."""
        self._rows = [row for row in self._rows if row["NumIters"] < iteration]

    def done(self) -> list[Row]:
        """All; the first, before which no rate was printed, with that of the second."""
        if len(self._rows) > 1:
            self._rows[0]["LearningRate"] = self._rows[1]["LearningRate"]
        return self._rows


def series(history: LoggedRun) -> Iterator[tuple[str, str, list[float], list[float]]]:
    """What can be drawn: panel, label, iterations, values."""
    yield "loss", "loss", [i for i, _ in history.losses], [loss for _, loss in history.losses]
    for kind, rows in (("train", history.train), ("test", history.test)):
        for name in dict.fromkeys(name for row in rows for name in list(row)[3:]):
            if kind == "train" and name == "loss":
                continue  # the smoothed one is there
            some = [row for row in rows if name in row]
            panel = "loss" if "loss" in name else name
            yield panel, f"{kind} {name}", [row["NumIters"] for row in some], [row[name] for row in some]
    rates = [row for row in history.train if not math.isnan(row["LearningRate"])]
    yield "learning rate", "learning rate", [r["NumIters"] for r in rates], [r["LearningRate"] for r in rates]
