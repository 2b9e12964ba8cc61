"""The side of a trial that trains: it tells each test to who started it, and hears whether to go on.

`caffepy train` is such a side where the environment variable CAFFEPY_TRIAL names two pipes. Without the other side
there is nothing to train for: the process ends as if killed, and is resumed as if killed.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from caffepy.errors import CaffeError, blamed
from caffepy.files import atomic_write
from caffepy.solver.events import Listener, listening
from caffepy.solver.solver import Solver
from caffepy.solver.testing import Scores
from caffepy.solver.training import Training
from caffepy.solver.watch import BestSnapshot, EarlyStop

PIPES = "CAFFEPY_TRIAL"
RESULT = "result.json"


class Line:
    """JSON, a line a message, over two pipes."""

    def __init__(self, incoming: int, outgoing: int):
        self._outgoing = outgoing
        self._answers: SimpleQueue[Any] = SimpleQueue()
        reader = os.fdopen(incoming, "rb")
        threading.Thread(target=self._read, args=(reader,), name="caffepy-trial", daemon=True).start()

    def _read(self, reader: Any) -> None:
        for line in reader:
            self._answers.put(json.loads(line))
        os._exit(1)

    def tell(self, message: dict[str, Any]) -> None:
        os.write(self._outgoing, json.dumps(message).encode() + b"\n")

    def ask(self, message: dict[str, Any]) -> Any:
        self.tell(message)
        return self._answers.get()


class Reporter(Listener):
    """Asks after each test whether the training goes on, and keeps the scores that count in the end.

    These are the last test's or, where the solver keeps its best snapshot, those of that.
    """

    name = "trial"

    def __init__(self, line: Line):
        self.line = line
        self.scores: Scores = {}
        self.tested = -1
        self.pruned = False

    def test(self, solver: Training) -> None:
        if not solver.scores:
            return
        self.tested = solver.iter
        best = [listener for listener in solver.listeners if isinstance(listener, BestSnapshot)]
        if not best or not best[0].stale or not self.scores:
            self.scores = dict(solver.scores)
        if not self.line.ask({"iter": solver.iter, "scores": solver.scores})["go"]:
            self.pruned = True
            solver.stop()

    def state(self) -> dict[str, Any]:
        return {"scores": self.scores, "tested": self.tested}

    def set_state(self, state: dict[str, Any]) -> None:
        self.scores, self.tested = state["scores"], state["tested"]


@contextmanager
def reported(solver: Solver, file: str) -> Iterator[None]:
    """Within the block the training of a solver file is a trial, if this process was started for one."""
    if PIPES not in os.environ:
        yield
        return
    line = Line(*map(int, os.environ[PIPES].split(",")))
    reporter = Reporter(line)
    try:
        with listening(solver, reporter):
            yield
            if not solver.stopped_early and reporter.tested != solver.iter:
                solver.test_all()
        line.tell(_end(solver, reporter, Path(file).parent / RESULT))
    except Exception as error:
        line.tell({"failed": str(blamed(error) or error), "fatal": _is_full(error)})
        raise


@contextmanager
def told_early(file: str) -> Iterator[None]:
    """Within the block a definition that cannot be built is told as a failure, if this process is a trial."""
    try:
        yield
    except CaffeError as error:
        if PIPES in os.environ:
            outgoing = int(os.environ[PIPES].split(",")[1])
            os.write(outgoing, json.dumps({"failed": str(error), "fatal": False}).encode() + b"\n")
        raise


def _end(solver: Solver, reporter: Reporter, result: Path) -> dict[str, Any]:
    if reporter.pruned:
        return {"pruned": solver.iter}
    waited = any(isinstance(listener, EarlyStop) and listener.exhausted for listener in solver.listeners)
    if solver.stopped_early and not waited:
        return {"stopped": solver.iter}
    found = {"iter": solver.iter, "scores": reporter.scores}
    with atomic_write(result) as temporary:
        Path(temporary).write_text(json.dumps(found))
    return {"done": found}


def _is_full(error: BaseException) -> bool:
    """Whether there is no room to write, so that no trial could do better."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
