"""Cross-validation: a training for each fold, tested on the fold that it has not seen."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffepy.errors import ConfigError, DataError
from caffepy.files import atomic_write, read_text
from caffepy.search import folds as cross
from caffepy.search.coordinator import ASSIGNMENT, alone_in
from caffepy.search.interrupts import Interrupts
from caffepy.search.model import Model
from caffepy.search.processes import Pool, ProcessOptions, on_all_gpus, result_of
from caffepy.solver.testing import Scores

log = logging.getLogger(__name__)

_POLL = 0.25


@dataclass(frozen=True)
class Result:
    """The scores of each fold, and what they come to."""

    folds: list[Scores]

    @property
    def mean(self) -> Scores:
        return {name: float(np.mean([fold[name] for fold in self.folds])) for name in self.folds[0]}

    @property
    def deviation(self) -> Scores:
        return {name: float(np.std([fold[name] for fold in self.folds])) for name in self.folds[0]}

    def rows(self) -> list[list[str]]:
        """A header, and a row for each output."""
        header = ["output", "mean", "deviation", *(f"fold {i}" for i in range(len(self.folds)))]
        rows = [
            [name, *(f"{v:.6g}" for v in (self.mean[name], self.deviation[name], *(fold[name] for fold in self.folds)))]
            for name in self.folds[0]
        ]
        return [header, *rows]

    def table(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


class CrossValidation:
    """The folds of a model in a folder. `run` begins, or goes on where it was interrupted."""

    def __init__(
        self, model: Model, folds: cross.Folds, folder: Path, jobs: int = 1, options: ProcessOptions | None = None
    ):
        if model.solver.test_interval < 1:
            raise ConfigError("the solver has no tests: set test_iter and test_interval")
        if not model.solver.max_iter:
            raise ConfigError("the solver has no max_iter")
        self.model, self.folds, self.folder = model.prepared(folds.seed), folds, folder
        self.pool = Pool(jobs, on_all_gpus(options or ProcessOptions(), model.solver))

    def run(self, advance: Callable[[int], object] = lambda done: None) -> Result:
        """Train all folds; their scores. Raises KeyboardInterrupt where it was interrupted: all is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone_in(self.folder), Interrupts(self.pool) as interrupts:
            self._check_folder()
            waiting = [self._written(fold) for fold in range(self.folds.count)]
            todo = [path for path in waiting if result_of(path.parent) is None]
            try:
                self._train(todo, interrupts, advance)
            except BaseException:
                self.pool.kill()
                raise
        if interrupts.count:
            raise KeyboardInterrupt
        result = Result([(result_of(path.parent) or {})["scores"] for path in waiting])
        with atomic_write(self.folder / "folds.csv") as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows(result.rows())
        return result

    def _check_folder(self) -> None:
        """Raises ConfigError where the folder has another cross-validation's files."""
        note, mark = self.folder / "folds.txt", f"{self.folds}\n{self.model.digest()}\n"
        if note.exists() and read_text(note) != mark:
            raise ConfigError(
                "it holds another cross-validation", where=str(self.folder), hint="Set another --folder, or remove it."
            )
        if not (self.folder / ASSIGNMENT).exists():
            self.folds.make(self.model, self.folder / ASSIGNMENT)
        with atomic_write(note) as temporary:
            Path(temporary).write_text(mark)

    def _written(self, fold: int) -> Path:
        """The solver file of a fold."""
        inner = self.folder / f"fold_{fold}"
        inner.mkdir(exist_ok=True)
        return cross.held_out(self.model, fold, self.folder / ASSIGNMENT).write(inner)

    def _train(self, todo: list[Path], interrupts: Interrupts, advance: Callable[[int], object]) -> None:
        failure = ""
        while True:
            while todo and self.pool.free and not interrupts.count and not failure:
                path = todo.pop(0)
                log.info("Training %s", path.parent.name)
                self.pool.start(path, path)
            advance(self.folds.count - len(todo) - len(self.pool.running))
            if not self.pool.running:
                break
            for process, message in self.pool.poll(_POLL):
                if "iter" in message:
                    process.answer(True)
                elif "failed" in message:
                    failure = failure or f"{process.owner.parent.name} failed: {message['failed']}"
                    self.pool.stop()
        if failure:
            raise DataError(failure, where=str(self.folder))
