"""What is done again and again takes no more memory, descriptors, threads, processes or shared pages than at first."""

from __future__ import annotations

import gc
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random

from tests.campaign.child import Child, inside
from tests.campaign.failures import keep
from tests.campaign.trainings import Training
from tests.campaign.turns import Turn

MEBIBYTES = 2.0
"""Of resident memory that the second half may add: a kilobyte each time is more."""
_PATIENCE = 10.0
"""Seconds in which another thread must get the lock of a net whose pass was interrupted."""

_LONG = 3600.0
"""Seconds that all may take."""


def _solver():
    from caffepy.solver import Solver

    return Solver("solver.prototxt")


def iterations() -> Iterator[None]:
    """Iterations of a solver with its tests."""
    solver = _solver()
    solver.param.snapshot = solver.param.display = 0
    while True:
        solver.step(1)
        yield


def nets() -> Iterator[None]:
    """Nets that are made, run and dropped."""
    from caffepy import passes
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import TRAIN

    while True:
        passes.of(net := Net("net.prototxt", TRAIN)).forward_backward()
        del net
        yield


def interrupted() -> Iterator[None]:
    """Passes that Ctrl-C ends at a random moment, after each of which another thread gets the net's lock."""
    from caffepy.passes import divided

    divided.LEAST_ELEMENTS = 0  # on threads, however small
    solver, random = _solver(), Random(1)
    solver.step(3)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    while True:
        with suppress(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-3))
            for _ in range(20):
                solver.passes.forward_backward()
            signal.setitimer(signal.ITIMER_REAL, 0)
        _check_lock(solver.net.lock)
        yield


def _check_lock(lock) -> None:
    taken = []

    def take() -> None:
        if lock.acquire(timeout=_PATIENCE):
            taken.append(True)
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert taken, "an interrupted pass has left the net's lock held"


def snapshots() -> Iterator[None]:
    """Snapshots, and resumes from them."""
    solver = _solver()
    while True:
        solver.restore(solver.snapshot())
        yield


ACTIVITIES: dict[str, Callable[[], Iterator[None]]] = {
    "iterations": iterations,
    "nets": nets,
    "interrupted": interrupted,
    "snapshots": snapshots,
}
TIMES = {"iterations": 10_000, "nets": 1000, "interrupted": 1000, "snapshots": 1000}
"""How often each is done in a whole run."""


def measured() -> dict[str, float]:
    """What this process holds: resident MiB, descriptors, threads, processes of its own, shared mappings."""
    gc.collect()
    time.sleep(1)  # threads of dropped nets look every tenth of a second whether they are wanted
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {
        "MiB": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "processes": len(children.read_text().split()) if children.exists() else 0,
        "shared": sum(line.split()[1].endswith("s") for line in maps),
    }


def _observe(activity: Callable[[], Iterator[None]], times: int) -> None:
    """In a process of its own: what it holds in the middle and at the end."""
    found, going = [], activity()
    for part in (times // 2, times - times // 2):
        for _ in islice(going, part):
            pass
        found.append(measured())
    Path("measured.json").write_text(json.dumps(found))


def try_leaks(name: str, times: int, source: str = "lmdb") -> str:
    """What is held in the middle and at the end. Raises AssertionError if that is more."""
    with tempfile.TemporaryDirectory() as place, inside(Path(place)):
        Training(source).prepare()
        try:
            outcome = Child(partial(_observe, ACTIVITIES[name], times), Path(place)).wait(_LONG)
            assert outcome.status == 0, f"status {outcome.status}: {outcome.said[-3000:]}"
            middle, end = json.loads(Path("measured.json").read_text())
            grown = {what: end[what] - middle[what] for what in end}
            assert grown.pop("MiB") <= MEBIBYTES and max(grown.values()) <= 0, (
                f"{middle} in the middle, {end} at the end"
            )
        except AssertionError as error:
            kept = keep(f"leaks-{name}", Path(place), f"{name} {times} times: {error}")
            raise AssertionError(f"{error}\nkept in {kept}") from None
    return f"{times} times: {json.dumps(middle)} in the middle, {json.dumps(end)} at the end"


def turns(seed: int) -> Iterator[Turn]:
    """All activities, again and again."""
    for number in count(seed):
        for name, times in TIMES.items():
            yield Turn(f"leaks {name}", number, partial(try_leaks, name, times))
