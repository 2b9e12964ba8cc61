"""The short form: what is done a few dozen times holds no more than at first. `--only leaks` does it by thousands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

if sys.platform != "linux":
    pytest.skip("what a process holds stands in /proc", allow_module_level=True)

from tests.campaign import failures, leaks


@pytest.mark.parametrize(("name", "times"), [("iterations", 200), ("nets", 30), ("interrupted", 60), ("snapshots", 30)])
def test_nothing_leaks(name, times):
    assert f"{times} times" in leaks.try_leaks(name, times)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(leaks.TIMES))
def test_nothing_leaks_in_thousands_of_times(name):
    leaks.try_leaks(name, leaks.TIMES[name])


def _memory() -> Iterator[None]:
    kept = []
    while True:
        kept.append(bytearray(1 << 20))
        yield


def _files() -> Iterator[None]:
    kept = []
    while True:
        kept.append(os.open("solver.prototxt", os.O_RDONLY))
        yield


@pytest.mark.parametrize("activity", [_memory, _files])
def test_a_leak_is_found(tmp_path, monkeypatch, activity):
    """The campaign itself must not be blind."""
    monkeypatch.setattr(failures, "FAILURES", tmp_path)
    monkeypatch.setitem(leaks.ACTIVITIES, "leaky", activity)
    with pytest.raises(AssertionError, match="in the middle"):
        leaks.try_leaks("leaky", 10)
