"""Operations of the system that are counted, and one of which is made to fail, to take long or to be the last.

with watched(Fault("rename", 3, "EIO")) as calls:
    ...  # the third rename fails
calls["rename"]  # how many there were
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

OPERATIONS = "open", "write", "fsync", "rename", "unlink", "mkdir", "mmap", "pipe", "thread"
"""Those of files count within the working folder alone."""
_AUDITED = {
    "open": "open",
    "os.rename": "rename",
    "os.remove": "unlink",
    "os.mkdir": "mkdir",
    "mmap.__new__": "mmap",
}
"""The events by which Python announces them (PEP 578)."""
_FILES = "open", "rename", "unlink", "mkdir"
SLOW = 0.02
"""Seconds that a slow operation takes longer."""


class Fault(NamedTuple):
    """What happens at the `number`-th call of an operation, counted from 1: before it, or in the middle of a write."""

    operation: str = ""
    number: int = 0
    effect: str = ""
    """The name of an error, or of an effect of this module."""
    lasting: bool = False
    """At every later call, too."""

    def __str__(self) -> str:
        return f"{self.operation} {self.number}{'...' if self.lasting else ''} {self.effect}"


def _kill(fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _slow(fault: Fault) -> None:
    time.sleep(SLOW)


def _folder(fault: Fault) -> None:
    shutil.rmtree("out", ignore_errors=True)


def _clock(fault: Fault) -> None:
    now, jump = time.time, 3.2e8 * (-1) ** fault.number
    time.time = lambda: now() + jump


EFFECTS: dict[str, Callable[[Fault], None]] = {"kill": _kill, "slow": _slow, "folder": _folder, "clock": _clock}


@contextmanager
def watched(fault: Fault) -> Iterator[Counter[str]]:
    """Within the block the operations are counted and the fault takes place. One block a process: the hook stays."""
    calls: Counter[str] = Counter()
    folder = os.path.join(os.getcwd(), "")
    active = True

    def call(operation: str, path: Any = None) -> None:
        if not active:
            return
        calls[operation] += 1
        if operation == fault.operation and (
            calls[operation] == fault.number or (fault.lasting and calls[operation] > fault.number)
        ):
            _take_place(fault, path)

    def hook(event: str, arguments: tuple) -> None:
        if active and (operation := _AUDITED.get(event)):
            path = arguments[0] if operation in _FILES else None
            if operation not in _FILES or _is_inside(path, folder):
                call(operation, path)

    sys.addaudithook(hook)
    starts = [name for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)]
    restore = [
        _replaced(os, "fsync", partial(call, "fsync")),
        _replaced(os, "pipe", partial(call, "pipe")),
        *(_replaced(threading, name, partial(call, "thread")) for name in starts),
        *_opened(call, folder),
    ]
    try:
        yield calls
    finally:
        active = False
        for undo in restore:
            undo()


def _take_place(fault: Fault, path: Any) -> None:
    if effect := EFFECTS.get(fault.effect):
        effect(fault)
    elif fault.operation == "thread":
        raise RuntimeError("can't start new thread")
    else:
        code = getattr(errno, fault.effect)
        raise OSError(code, os.strerror(code), path)


def _is_inside(path: Any, folder: str) -> bool:
    return isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path)).startswith(folder)


def _replaced(module: Any, name: str, call: Callable[..., None]) -> Callable[[], None]:
    """Count calls of a function that Python does not announce; returns what undoes it."""
    function = getattr(module, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        call()
        return function(*arguments, **options)

    setattr(module, name, counted)
    return lambda: setattr(module, name, function)


def _opened(call: Callable[..., None], folder: str) -> Iterator[Callable[[], None]]:
    """Files that are opened to be written count their writes."""
    function = io.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        made = function(file, mode, *arguments, **options)
        return _Writing(made, call, file) if set(mode) & set("wax+") and _is_inside(file, folder) else made

    places = [(io, "open"), (builtins, "open")]
    with suppress(AttributeError):  # Python 3.10
        places.append((pathlib._normal_accessor, "open"))  # type: ignore[attr-defined]
    for module, name in places:
        setattr(module, name, opened)
        yield lambda module=module, name=name: setattr(module, name, function)  # type: ignore[misc]


class _Writing:
    """A file; a write that fails has written half."""

    def __init__(self, file: Any, call: Callable[..., None], path: Any):
        self._file, self._call, self._path = file, call, path

    def write(self, content: Any) -> int:
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._call("write", self._path)
        return half + self._file.write(content[half:])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
