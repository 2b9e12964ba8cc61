"""The pool: every task once, on all threads, errors and interrupts passed on, alive after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from caffepy.engine.threads import ThreadPool, available_cores
from caffepy.errors import ConfigError


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 200])
def test_every_task_runs_once(threads, n):
    pool = ThreadPool(threads)
    for _ in range(3):
        done = []
        pool.run(done.append, n)
        assert sorted(done) == list(range(n))


def test_all_threads_work():
    barrier = threading.Barrier(3, timeout=10)
    ThreadPool(3).run(lambda i: barrier.wait(), 3)


def test_one_thread_is_the_caller():
    ran_on = set()
    ThreadPool(1).run(lambda i: ran_on.add(threading.get_ident()), 4)
    assert ran_on == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_and_ends_the_work(threads):
    done = []

    def task(i: int) -> None:
        if i == 5:
            raise ZeroDivisionError("task 5")
        done.append(i)
        time.sleep(0.001)

    pool = ThreadPool(threads)
    with pytest.raises(ZeroDivisionError, match="task 5"):
        pool.run(task, 100_000)
    assert len(done) < 1000
    pool.run(done.append, 3)  # and it goes on working


def test_a_task_may_use_the_pool():
    pool, done = ThreadPool(2), []
    pool.run(lambda i: pool.run(lambda j: done.append((i, j)), 3), 4)
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_two_callers_at_once():
    pool, done = ThreadPool(2), []
    callers = [
        threading.Thread(target=lambda: [pool.run(lambda i: done.append(i), 20) for _ in range(50)]) for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(done) == sorted(list(range(20)) * 150)


FORKED = """
import os
from caffepy.engine.threads import ThreadPool
pool, done = ThreadPool(2), []
pool.run(lambda i: None, 2)
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
pool.run(done.append, 50)
os._exit(0 if sorted(done) == list(range(50)) else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_starts_its_own_threads():
    # In a process of its own: a fork of this one would inherit whatever locks other tests' threads hold.
    assert subprocess.run([sys.executable, "-c", FORKED], check=False, timeout=60).returncode == 0


def test_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("CAFFEPY_THREADS", "7")
    assert available_cores() == 7
    monkeypatch.delenv("CAFFEPY_THREADS")
    assert 1 <= available_cores() <= os.cpu_count()


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5"])
def test_what_is_no_number_of_threads(monkeypatch, value):
    monkeypatch.setenv("CAFFEPY_THREADS", value)
    with pytest.raises(ConfigError) as caught:
        available_cores()
    assert str(caught.value) == f'the environment variable CAFFEPY_THREADS is "{value}", not a number of threads'


@pytest.mark.parametrize(("threads", "n"), [(1, 3), (2, 1), (2, 2), (2, 5), (4, 3)])
def test_steps_one_after_the_other(threads, n):
    pool, done = ThreadPool(threads), []
    steps = [lambda i, number=number: done.append((number, i)) for number in range(4)]
    callers = []

    def between(number: int) -> None:
        callers.append(threading.get_ident())
        done.append((number, "between"))

    pool.in_step(steps, n, between)
    rounds = [done[k * (n + 1) : (k + 1) * (n + 1)] for k in range(4)]
    for number, found in enumerate(rounds):
        assert found[-1] == (number, "between")
        assert sorted(found[:-1]) == [(number, i) for i in range(n)]
    assert set(callers) == {threading.get_ident()}


@pytest.mark.parametrize("culprit", [0, 1, "between"])
def test_an_error_ends_the_steps(culprit):
    pool, done = ThreadPool(2), []

    def fail(who) -> None:
        if who == culprit:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pool.in_step([fail, done.append], 2, lambda number: fail("between"))
    assert not done
    pool.in_step([done.append], 2, lambda number: None)
    assert sorted(done) == [0, 1]


def test_a_thread_that_cannot_be_started(monkeypatch, caplog):
    start, started = threading.Thread.start, []

    def refuse(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool, done = ThreadPool(4), []
    for _ in range(2):
        pool.run(done.append, 8)
    assert sorted(done) == sorted([*range(8), *range(8)])
    assert [r.getMessage() for r in caplog.records] == ["2 threads compute instead of 4: can't start new thread"]
