"""A process that reads mutants: where one kills it, hangs it or fills its memory, the campaign goes on and knows which.

with Reader("lmdb") as reader:
    reader.outcome(mutant)  # "read" or "refused"; raises AssertionError for anything else
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
    """Reads mutants of a kind in another process, which is started again where one has killed it."""

    def __init__(self, kind: str):
        self.kind = kind
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # libraries complain of every second mutant

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._said.close()

    def outcome(self, mutant: bytes) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.campaign.isolated", self.kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**os.environ, "CAFFEPY_MAX_MEMORY": "512M", "PYTHONFAULTHANDLER": "1"},
            )
            assert self._answer(60.0) == "ready"
        assert self._process.stdin
        self._process.stdin.write(_NEWS.pack(len(mutant)) + mutant)
        self._process.stdin.flush()
        answer = self._answer(PATIENCE)
        assert answer in ("read", "refused"), answer
        return answer

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


def serve(name: str) -> None:
    """What the other process does: read a mutant, say what came of it, again and again."""
    from tests.campaign.kinds import KINDS

    kind, answers = KINDS[name], os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kind.prepare(Path(folder))
        kind.read(kind.write(Path(folder), kind.whole()))  # imports all that it takes, and must succeed
        _limit_memory()
        _say(answers, "ready")
        while head := sys.stdin.buffer.read(_NEWS.size):
            mutant = sys.stdin.buffer.read(_NEWS.unpack(head)[0])
            _say(answers, _try(kind, kind.write(Path(folder), mutant)))


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
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + MEMORY,) * 2)


def _say(answers, text: str) -> None:
    raw = text.encode()
    answers.write(_NEWS.pack(len(raw)) + raw)
    answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
