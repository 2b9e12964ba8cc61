"""Batches made ahead: their order, the bound of the queue, errors, and going on from a state."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from caffepy.data.prefetch import Prefetcher
from caffepy.errors import DataError


class Source:
    """Makes batch i of a state i, and remembers what it was asked."""

    def __init__(self, fails_at: int | None = None):
        self.made: list[int] = []
        self.recycled: list[list[int] | None] = []
        self.fails_at = fails_at

    def __call__(self, state: int, recycled: list[int] | None) -> tuple[list[int], int]:
        if state == self.fails_at:
            raise ValueError(f"batch {state} is damaged")
        self.made.append(state)
        self.recycled.append(recycled)
        batch = [0] if recycled is None else recycled
        batch[0] = state
        return batch, state + 1


def wait_until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("timeout")


@pytest.fixture
def start():
    gc.collect()  # nets of other tests, which end their threads when they are collected
    wait_until(lambda: not any(t.name == "caffepy-prefetch" for t in threading.enumerate()))
    started = []

    def start(source, state: int = 0, depth: int = 3) -> Prefetcher:
        started.append(Prefetcher(source, state, depth))
        return started[-1]

    yield start
    for prefetcher in started:
        prefetcher.close()
    wait_until(lambda: not any(t.name == "caffepy-prefetch" for t in threading.enumerate()))


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_batches_come_in_order(start, depth):
    prefetcher = start(Source(), 5, depth)
    assert [prefetcher.next()[0] for _ in range(20)] == list(range(5, 25))


def test_nothing_runs_before_the_first_batch_is_wanted(start):
    source = Source()
    start(source)
    time.sleep(0.02)
    assert source.made == []


def test_no_more_is_made_ahead_than_the_queue_holds(start):
    source = Source()
    prefetcher = start(source, depth=3)
    prefetcher.next()
    wait_until(lambda: len(source.made) == 5)  # the reader's, three that wait, one in the maker's hand
    time.sleep(0.02)
    assert len(source.made) == 5


def test_the_state_is_the_readers_not_the_makers(start):
    source = Source()
    prefetcher = start(source, depth=3)
    for expected in range(4):
        assert prefetcher.state == expected
        prefetcher.next()


def test_memory_is_used_again(start):
    source = Source()
    prefetcher = start(source, depth=1)
    for _ in range(50):
        prefetcher.next()
    assert len({id(batch) for batch in source.recycled if batch is not None}) <= 4
    assert source.recycled.count(None) <= 4


def test_an_interrupted_wait_leaves_no_memory_to_two_batches(start, monkeypatch):
    prefetcher = start(Source(), depth=3)
    prefetcher.next()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(prefetcher, "_ready", SimpleNamespace(get_nowait=raise_interrupt))
        with pytest.raises(KeyboardInterrupt):
            prefetcher.next()
    for expected in range(1, 9):
        wait_until(lambda: prefetcher._ready.qsize() == 3)
        assert prefetcher.next() == [expected]


def raise_interrupt():
    raise KeyboardInterrupt


def test_an_error_reaches_the_reader_behind_the_good_batches(start):
    prefetcher = start(Source(fails_at=2))
    assert [prefetcher.next()[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=r"^batch 2 is damaged$"):
        prefetcher.next()
    assert prefetcher.state == 2


def test_an_error_reaches_a_waiting_reader_at_once(start):
    prefetcher = start(Source(fails_at=0))
    began = time.perf_counter()
    for _ in range(2):  # and once more, for who tries again
        with pytest.raises(ValueError, match=r"^batch 0 is damaged$"):
            prefetcher.next()
    assert time.perf_counter() - began < 5


def test_restart_drops_what_was_made_ahead(start):
    prefetcher = start(Source())
    prefetcher.next()
    prefetcher.restart(100)
    assert prefetcher.state == 100
    assert [prefetcher.next()[0] for _ in range(3)] == [100, 101, 102]


def test_close_stops_the_thread_and_next_goes_on(start):
    prefetcher = start(Source())
    prefetcher.next()
    prefetcher.close()
    prefetcher.close()
    assert not any(t.name == "caffepy-prefetch" for t in threading.enumerate())
    assert prefetcher.next() == [1]


def test_the_time_of_waiting_is_counted(start):
    def slow(state, recycled):
        time.sleep(0.02)
        return [state], state + 1

    prefetcher = start(slow)
    prefetcher.next()
    assert prefetcher.wait >= 0.01


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_reads_on(start):
    prefetcher = start(Source())
    prefetcher.next()
    child = os.fork()
    if not child:
        os._exit([prefetcher.next()[0] for _ in range(9)] != list(range(1, 10)))
    assert os.waitpid(child, 0)[1] == 0
    assert prefetcher.next() == [1]


def test_a_reader_that_waits_is_told_when_the_thread_is_stopped(start):
    release = threading.Event()
    prefetcher = start(lambda state, recycled: (release.wait(5) and [state], state + 1))
    closer = threading.Thread(target=lambda: (time.sleep(0.1), release.set(), prefetcher.close()))
    closer.start()
    with pytest.raises(DataError, match="the thread that reads ahead was stopped"):
        while True:
            release.clear()
            prefetcher.next()
    closer.join()


@pytest.mark.parametrize("depth", [1, 3])
def test_an_error_behind_a_full_queue(start, depth):
    prefetcher = start(Source(fails_at=depth + 1), depth=depth)
    prefetcher.next()
    time.sleep(0.05)  # the thread holds its error and has no room for it
    prefetcher.close()
    assert [prefetcher.next()[0] for _ in range(depth)] == list(range(1, depth + 1))
    with pytest.raises(ValueError, match="is damaged"):
        prefetcher.next()


def test_the_program_ends_while_a_batch_is_made():
    code = """
import sys, time
from caffepy.data.prefetch import Prefetcher
def make(state, recycled):
    time.sleep(0.2)
    print("made", state, flush=True)
    return [state], state + 1
prefetcher = Prefetcher(make, 0, 3)
prefetcher.next()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "made 0\nmade 1\n"  # it was waited for, and nothing begun after it


def test_where_no_thread_is_to_be_had_the_reader_makes_its_batches(start, monkeypatch, caplog):
    def refused(*arguments):
        raise RuntimeError("can't start new thread")

    source, allowed = Source(), threading.Thread.start
    prefetcher = start(source)
    monkeypatch.setattr(threading.Thread, "start", refused)
    batches = [prefetcher.next()[0] for _ in range(3)]
    assert batches == source.made == [0, 1, 2] and prefetcher.state == 3
    assert len({id(batch) for batch in source.recycled[1:]}) == 1  # one batch's memory, again and again
    assert [record.getMessage() for record in caplog.records] == [
        "Batches are not made ahead but when they are due: can't start new thread"
    ]
    monkeypatch.setattr(threading.Thread, "start", allowed)
    assert [prefetcher.next()[0] for _ in range(3)] == [3, 4, 5]
    wait_until(lambda: len(source.made) > 6)  # ahead again


def test_an_interrupt_anywhere_leaves_no_lock_behind(start):
    """Between any two steps of Python's, those of its queues' methods, too."""
    number = 0
    while True:
        number += 1
        prefetcher = start(Source(), depth=2)
        prefetcher.next()
        if not interrupted(prefetcher.next, number):
            break
        answer = []
        reader = threading.Thread(target=lambda p=prefetcher, a=answer: a.append(p.next()), daemon=True)
        reader.start()
        reader.join(20)
        assert answer, f"it hangs after an interrupt at step {number}"
        prefetcher.close()
    assert number > 10


def interrupted(call, number: int) -> bool:
    """Whether it was, at its step of this number."""
    steps = 0

    def trace(frame, event, argument):
        nonlocal steps
        steps += 1
        if steps == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
