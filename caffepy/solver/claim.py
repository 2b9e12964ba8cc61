"""A run's claim to its prefix of snapshots: nobody else writes there, and nothing of others stands there."""

from __future__ import annotations

import weakref

from caffepy.solver import lock, runs
from caffepy.solver.runs import Run


class Claim:
    """Made before the first snapshot; ends with the training, or when nobody has the solver any more."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.run = runs.new()
        """Which run this is: a new one, or the one that wrote the snapshot that was restored."""
        self._from: int | None = None  # the iteration of that snapshot
        self._release: weakref.finalize | None = None
        self._alone = False

    def go_on(self, run: Run | None, iteration: int) -> None:
        """The solver goes on from a snapshot of `run`; None: of one that Caffe wrote."""
        self.run, self._from, self._alone = run or self.run, iteration, False

    def hold(self) -> None:
        """Keep others from writing there. Raises ConfigError if another process does."""
        if not self._release:
            self._release = weakref.finalize(self, lock.take(self.prefix))

    def make(self) -> None:
        """Hold it, and set apart what is of other runs."""
        self.hold()
        if not self._alone:
            runs.set_apart(self.prefix, self.run, self._from)
            self._alone = True

    def end(self) -> None:
        if self._release:
            self._release()
            self._release = None
