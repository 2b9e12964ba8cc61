"""A process that reads mutants: where one kills it, hangs it or fills its memory, the campaign goes on and knows which.

with Reader() as reader:
    reader.outcome("Lmdb", mutant)  # "read" or "refused"; raises AssertionError for anything else
"""

from __future__ import annotations

import os
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

PATIENCE = 10.0
"""Seconds that a mutant may take."""
MEMORY = 1 << 30
"""Bytes that it may take beyond what the process has at first."""
_NEWS = struct.Struct("=I")


class Reader:
    """Reads mutants in another process, which is started again where one has killed it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # libraries complain of every second mutant

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._said.close()

    def outcome(self, kind: str, mutant: bytes) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.campaign.isolated"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**os.environ, "CAFFEPY_MAX_MEMORY": "512M", "PYTHONFAULTHANDLER": "1"},
            )
            self._ready: set[str] = set()
        if kind not in self._ready:
            self._ask(kind.encode())
            assert (answer := self._answer(60.0)) == "ready", answer
            self._ready.add(kind)
        self._ask(kind.encode(), mutant)
        answer = self._answer(PATIENCE)
        assert answer in ("read", "refused"), answer
        return answer

    def _ask(self, kind: bytes, mutant: bytes | None = None) -> None:
        """A whole file of the kind is made and read; or a mutant is read."""
        assert self._process and self._process.stdin
        for part in (kind, b"?" if mutant is None else b"!" + mutant):
            self._process.stdin.write(_NEWS.pack(len(part)) + part)
        self._process.stdin.flush()

    def _answer(self, patience: float) -> str:
        assert self._process and self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(patience):
                self._end()
                return f"it takes more than {patience:g} s"
        head = self._process.stdout.read(_NEWS.size)
        if len(head) < _NEWS.size:
            status = self._process.wait()
            self._end()
            self._said.seek(-min(2000, self._said.tell()), os.SEEK_END)
            return f"the process that reads it ended with status {status}: {self._said.read().decode(errors='replace')}"
        return self._process.stdout.read(_NEWS.unpack(head)[0]).decode(errors="replace")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with suppress(OSError):
                        pipe.close()
        self._process = None


def serve() -> None:
    """What the other process does: prepare for a kind, read a mutant of it, say what came of it, again and again."""
    from tests.campaign.all_kinds import KINDS
    from tests.campaign.kinds import SelfTest

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as place:
        while name := _heard().decode():
            kind, folder = KINDS.get(name) or SelfTest(), Path(place, name)
            folder.mkdir(exist_ok=True)
            os.chdir(folder)
            if (order := _heard())[:1] == b"!":
                _say(answers, _try(kind, kind.write(folder, order[1:])))
                continue
            kind.prepare(folder)
            kind.read(kind.write(folder, kind.whole()))  # imports all that it takes, and must succeed
            _limit_memory()
            _say(answers, "ready")


def _heard() -> bytes:
    head = sys.stdin.buffer.read(_NEWS.size)
    return sys.stdin.buffer.read(_NEWS.unpack(head)[0]) if head else b""


def _try(kind, path: Path) -> str:
    from caffepy.errors import CaffeError

    try:
        kind.read(path)
        return "read"
    except CaffeError:
        return "refused"
    except BaseException:
        return traceback.format_exc()


def _limit_memory() -> None:
    used = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + MEMORY, most))


def _say(answers, text: str) -> None:
    raw = text.encode()
    answers.write(_NEWS.pack(len(raw)) + raw)
    answers.flush()


if __name__ == "__main__":
    serve()
