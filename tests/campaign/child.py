"""Work in a process of its own, as a program or forked from one that has imported all that it takes.

Child(work, folder).wait()  # Outcome(status=0, said="...", calls={"open": 7, ...})
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.campaign.operations import Fault, watched

PATIENCE = 300.0
"""Seconds that a process may take, on a machine that does much else."""
ROOT = Path(__file__).parents[2]
_SAID, _CALLS = "said.txt", "calls.json"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.campaign.warm"])


class Outcome(NamedTuple):
    status: int
    """What the process ends with; the negative number of a signal that killed it."""
    said: str
    calls: dict[str, int]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The folder is the working folder within the block."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Running(ABC):
    """A process that works in a folder."""

    pid: int

    def __init__(self, folder: Path):
        self._folder = folder
        for name in (_SAID, _CALLS):
            (folder / name).unlink(missing_ok=True)

    @abstractmethod
    def status(self, patience: float = 0.0) -> int | None:
        """What it has ended with, after so many seconds; None while it runs."""

    def said(self) -> str:
        path = self._folder / _SAID
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, number: int) -> None:
        if self.status() is None:
            os.kill(self.pid, number)

    def wait_for(self, word: str) -> None:
        """Until it has said the word, or has ended."""
        while word not in self.said() and self.status() is None:
            time.sleep(0.002)

    def wait(self, patience: float = PATIENCE) -> Outcome:
        """Raises AssertionError with the places of all its threads if it does not end."""
        status = self.status(patience)
        if status is None:
            self.signal(signal.SIGABRT)
            self.status(patience)
            raise AssertionError(f"it takes more than {patience:g} s:\n{self.said()[-5000:]}")
        calls = self._folder / _CALLS
        return Outcome(status, self.said(), json.loads(calls.read_text()) if calls.exists() else {})


class Child(Running):
    """Calls `work` in the folder, with a fault. Forking takes 20 ms, where a program takes half a second to start."""

    def __init__(self, work: Callable[[], object], folder: Path, fault: Fault = Fault()):  # noqa: B008  # a value
        super().__init__(folder)
        self._process = _context.Process(target=_work, args=(work, str(folder), fault), daemon=True)
        with inside(ROOT):  # where the first one's server finds what it imports
            self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def status(self, patience: float = 0.0) -> int | None:
        self._process.join(patience)
        return self._process.exitcode


class Started(Running):
    """A command that runs in the folder."""

    def __init__(self, command: list[str], folder: Path):
        super().__init__(folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
        with open(folder / _SAID, "wb") as said:
            self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        self.pid = self._process.pid

    def status(self, patience: float = 0.0) -> int | None:
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None


def _work(work: Callable[[], object], folder: str, fault: Fault) -> None:
    os.chdir(folder)
    said = os.open(_SAID, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(said, stream)
    faulthandler.enable()
    calls: dict[str, int] = {}
    try:
        with watched(fault) as calls:
            work()
    finally:
        Path(_CALLS).write_text(json.dumps(calls))
