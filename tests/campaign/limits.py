"""Less than a program needs: of a disk, of the size of files, of descriptors, of address space. What C libraries
write, open and map is refused here, too.

A clean error, nothing lost, and a run with enough of it goes on, as with faults.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from tests.campaign.child import Child
from tests.campaign.failures import keep
from tests.campaign.faults import checked, retried, undisturbed
from tests.campaign.programs import PROGRAMS, Program
from tests.campaign.turns import Turn

MEBIBYTE, PAGE = 1 << 20, 4096
AMOUNTS: dict[str, Sequence[int]] = {
    "FSIZE": range(0, 1 << 14, 512),
    "NOFILE": range(3, 32),
    "AS": range(0, 64 * MEBIBYTE, MEBIBYTE),
}
"""Bytes that a file may have, descriptors, and bytes beyond what the process has mapped at first."""
DISKS = range(PAGE, 24 * PAGE, PAGE)
"""Bytes of a disk: a page more each time, so that every page of a snapshot is once the one that is too many."""


def _limited(limit: str, amount: int, work: Callable[[], object]) -> None:
    """In a process of its own: work with less."""
    if limit == "AS":
        amount += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    kind = getattr(resource, f"RLIMIT_{limit}")
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (amount, before[1]))
    try:
        work()
    finally:
        resource.setrlimit(kind, before)


def try_limit(name: str, limit: str, amount: int) -> int:
    """The status that the program ends with. Raises AssertionError if something is lost."""
    return _tried(name, f"{limit}-{amount}", lambda program, folder: partial(_limited, limit, amount, program.run))


def try_disk(name: str, size: int) -> int:
    """The same, with snapshots on a disk of so many bytes; the retry finds a larger one."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(undisturbed(name).template, f"{place}/work"))
        with disk(folder / "out", size):
            status = _attempted(name, f"disk-{size}", folder, PROGRAMS[name].run, partial(resize, folder / "out"))
    return status


def _tried(name: str, what: str, work: Callable[[Program, Path], Callable[[], object]]) -> int:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(undisturbed(name).template, f"{place}/work"))
        return _attempted(name, what, folder, work(PROGRAMS[name], folder), lambda: None)


def _attempted(name: str, what: str, folder: Path, work: Callable[[], object], relieve: Callable[[], None]) -> int:
    program, known = PROGRAMS[name], undisturbed(name)
    try:
        outcome = Child(work, folder).wait()
        checked(program, known, folder, outcome, silent=what.startswith("FSIZE"))
        relieve()
        retried(program, known, folder)
    except AssertionError as error:
        kept = keep(f"{name}-{what}", folder, f"{name}: {what}\n{error}\n")
        raise AssertionError(f"{name}: {what}: {error}\nkept in {kept}") from None
    return outcome.status


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of its own in the block. Raises PermissionError where this user may mount none."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        raise PermissionError("a disk can be mounted by root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def resize(folder: Path, size: int = 1 << 26) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def try_limits(name: str, limit: str) -> str:
    """All amounts of a limit; what came of them."""
    ended = [try_limit(name, limit, amount) for amount in AMOUNTS[limit]]
    return f"{len(ended)} limits: {ended.count(0)} survived, {ended.count(1)} said"


def try_disks(name: str) -> str:
    """All sizes of a disk."""
    try:
        ended = [try_disk(name, size) for size in DISKS]
    except PermissionError as error:
        return f"skipped: {error}"
    return f"{len(ended)} disks: {ended.count(0)} survived, {ended.count(1)} said"


def turns(seed: int) -> Iterator[Turn]:
    """Disks for all that train, and limits of all kinds for all programs, again and again."""
    for number in count(seed):
        for name in PROGRAMS:
            for limit in AMOUNTS:
                yield Turn(f"limits {name} {limit}", number, partial(try_limits, name, limit))
            if name.startswith("train-"):
                yield Turn(f"disks {name}", number, partial(try_disks, name))
