"""An operation of the system fails at its n-th call, for every n: a clean error, nothing lost, and a retry that works.

The first n that fails a program is the smallest: what is kept is minimal.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.campaign.child import Child, Outcome, inside
from tests.campaign.failures import keep
from tests.campaign.operations import OPERATIONS, Fault
from tests.campaign.programs import PROGRAMS, Program
from tests.campaign.turns import Turn

_ONE = {
    "open": ("EMFILE", "EIO"),
    "write": ("ENOSPC", "EIO"),
    "fsync": ("EIO",),
    "rename": ("EIO",),
    "unlink": ("EIO",),
    "mkdir": ("ENOSPC",),
    "mmap": ("ENOMEM",),
    "pipe": ("EMFILE",),
    "thread": ("EAGAIN",),
}
"""What may happen to one call."""
_ALL = {
    "open": ("EMFILE",),
    "write": ("ENOSPC", "EDQUOT"),
    "fsync": ("EIO",),
    "rename": ("EROFS",),
    "unlink": ("EROFS",),
    "thread": ("EAGAIN",),
}
"""What may happen to all calls from one on."""
_ANY = "kill", "clock"
"""What may happen before any."""


class Known(NamedTuple):
    """An undisturbed run."""

    template: Path
    result: dict[str, Any]
    calls: dict[str, int]


@lru_cache(None)
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()  # removed when the campaign ends


@lru_cache(None)
def undisturbed(name: str) -> Known:
    """What the program makes and calls where nothing fails. Raises AssertionError if that is not the same twice."""
    program, template = PROGRAMS[name], Path(_place().name, name)
    template.mkdir()
    with inside(template):
        program.prepare()
    found = []
    for i in range(2):
        folder = Path(shutil.copytree(template, f"{template}-{i}"))
        outcome = Child(program.run, folder).wait()
        assert outcome.status == 0, outcome.said
        with inside(folder):
            found.append((program.result(), outcome.calls))
        shutil.rmtree(folder)
    assert found[0][0] == found[1][0]
    return Known(template, *found[0])


def faults(name: str, operation: str) -> Iterator[Fault]:
    """All that are tried on an operation of a program, the smallest number first."""
    calls = undisturbed(name).calls.get(operation, 0)
    for number in range(1, calls + 1):
        yield from (Fault(operation, number, effect) for effect in (*_ONE[operation], *_ANY))
        yield from (Fault(operation, number, effect, lasting=True) for effect in _ALL.get(operation, ()))
        over = operation == "unlink" and number == calls  # the lock's, when all is written
        if name.startswith("train-") and not over:
            yield Fault(operation, number, "folder")


def try_fault(name: str, fault: Fault) -> int:
    """The status that the program ends with. Raises AssertionError for one that a fault has made lose something."""
    program, known = PROGRAMS[name], undisturbed(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(known.template, f"{place}/work"))
        try:
            outcome = Child(program.run, folder, fault).wait()
            checked(program, known, folder, outcome)
            retried(program, known, folder)
        except AssertionError as error:
            kept = keep(f"{name}-{fault}".replace(" ", "-"), folder, f"{name}: {fault}\n{error}\n")
            raise AssertionError(f"{name}: {fault}: {error}\nkept in {kept}") from None
        return outcome.status


def checked(program: Program, known: Known, folder: Path, outcome: Outcome, silent: bool = False) -> None:
    """What was said is clean, and what lies there is whole; `silent` where the log may not have been written."""
    said = outcome.said[-3000:]
    assert "Traceback" not in said, said
    assert outcome.status in (0, 1, -9), f"status {outcome.status}: {said}"
    assert silent or outcome.status != 1 or "\nerror: " in f"\n{said}", f"it fails without a word: {said}"
    if program.name.startswith("train-"):
        (folder / "out").mkdir(exist_ok=True)  # a fault may have removed it
    with inside(folder):
        program.check(known.result)
        if outcome.status == 0:
            assert program.result() == known.result, "it ends well with another result"


def retried(program: Program, known: Known, folder: Path) -> None:
    """Where nothing fails it goes on to the right end."""
    retry = partial(program.run, *program.again)
    outcome = Child(retry, folder).wait()
    if outcome.status == 1 and "the database exists already\n  Remove it" in outcome.said:
        for made in known.result:
            shutil.rmtree(folder / made, ignore_errors=True)
        outcome = Child(retry, folder).wait()
    assert outcome.status == 0, f"again: status {outcome.status}: {outcome.said[-3000:]}"
    with inside(folder):
        assert program.result() == known.result, "again: another result"
    left = [str(path.relative_to(folder)) for path in folder.rglob(".*.tmp")]
    assert not left, f"again: {left} is left"


def try_operation(name: str, operation: str, stride: int = 1) -> str:
    """Every fault of an operation of a program, or one of `stride`; what came of them."""
    ended = [try_fault(name, fault) for fault in islice(faults(name, operation), 0, None, stride)]
    said = f"{ended.count(0)} survived, {ended.count(1)} said, {ended.count(-9)} killed"
    return f"{undisturbed(name).calls.get(operation, 0)} calls, {len(ended)} faults: {said}"


def turns(seed: int) -> Iterator[Turn]:
    """Every operation of every program, in an order drawn by the seed, again and again."""
    pairs = [(name, operation) for name in PROGRAMS for operation in OPERATIONS]
    for number in count(seed):
        Random(number).shuffle(pairs)
        for name, operation in pairs:
            if undisturbed(name).calls.get(operation):
                yield Turn(f"faults {name} {operation}", number, partial(try_operation, name, operation))
