"""A setting of the process: begun by the first, ended by the last, in threads, errors and forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from caffepy.engine.held import Held


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def held(events) -> Held:
    def begin():
        events.append("begin")
        return lambda: events.append("end")

    return Held(begin)


def test_the_outermost_counts(held, events):
    for _ in range(2):
        with held, held:
            with held:
                pass
            assert events[-1] == "begin"
    assert events == ["begin", "end"] * 2


def test_an_error_ends_it(held, events):
    with pytest.raises(ZeroDivisionError), held, held:
        raise ZeroDivisionError
    assert events == ["begin", "end"]


def test_what_cannot_begin_is_tried_again(events):
    def begin():
        events.append("begin")
        if len(events) == 1:
            raise OSError
        return lambda: events.append("end")

    held = Held(begin)
    with pytest.raises(OSError), held:
        pass
    with held:
        pass
    assert events == ["begin", "begin", "end"]


def test_the_last_thread_to_leave_ends_it(held, events):
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with held:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with held:
        thread.start()
        assert inside.wait(10)
    assert events == ["begin"]
    leave.set()
    thread.join()
    assert events == ["begin", "end"]


def test_many_threads(held, events):
    def enter() -> None:
        for _ in range(500):
            with held, held:
                assert events[-1] == "begin"

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events[-1] == "end" and events[::2] == ["begin"] * (len(events) // 2)


FORKED = """
import os, threading
from caffepy.engine.held import Held
events = []
def begin():
    events.append("begin")
    return lambda: events.append("end")
held = Held(begin)

def in_a_child(expected, work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0 if events == expected else print(events, flush=True) or 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def enter():
    with held: pass

inside, leave = threading.Event(), threading.Event()
def stay():
    with held:
        inside.set()
        leave.wait(10)
thread = threading.Thread(target=stay)
thread.start()
inside.wait(10)
held._lock.acquire()  # somebody enters at this moment
in_a_child(["begin", "end", "begin", "end"], enter)  # the thread that was within is not there
held._lock.release()
with held:
    def leave_it():
        enter()
        held.__exit__()
    in_a_child(["begin", "end"], leave_it)
leave.set()
thread.join()
assert events == ["begin", "end"]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_has_its_own():
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=False, timeout=60).returncode == 0
