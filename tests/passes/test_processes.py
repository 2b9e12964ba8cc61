"""What becomes of the processes that compute parts of a batch, and of others beside them."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from caffepy.engine.numpy import memory
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.layers.tanh import TanH
from caffepy.net import layer
from caffepy.net.blob import Blob
from caffepy.net.net import Net
from caffepy.passes import divided as parts
from tests.passes.nets import NET, assert_same, build, crew, needs_processes, passes

pytestmark = needs_processes


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def test_workers_start_with_the_second_pass_and_end_with_the_net():
    net = build()
    net.forward()
    assert not crew(net)
    net.forward()
    pids = list(crew(net))
    assert len(pids) == 1 and set(pids) <= set(children())
    net.forward_backward()
    assert crew(net) == pids
    del net
    gc.collect()
    assert not set(pids) & set(children())


def test_a_value_of_caffepy_workers_that_says_nothing(monkeypatch):
    monkeypatch.setenv("CAFFEPY_WORKERS", "yes")
    with pytest.raises(ConfigError, match='CAFFEPY_WORKERS is "yes"'):
        build()


def test_without_processes_threads_go_on(monkeypatch, caplog):
    def refuse():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    net = build()
    found = passes(net)
    assert [r.getMessage() for r in caplog.records if "slower" in r.getMessage()] == [
        "Threads instead of processes compute parts of the batch, which is slower: Resource temporarily unavailable"
    ]
    monkeypatch.undo()
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 0)
    assert_same(found, passes(build()))


def test_a_worker_that_is_killed_is_reported_and_replaced():
    net = build()
    expected = passes(build(), 4)
    passes(net, 2)
    (pid,) = crew(net)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CaffeError, match="CAFFEPY_WORKERS=0"):
        net.forward()
    with pytest.raises(ConfigError, match="Run forward again"):
        net.backward()
    fresh = build()
    for mine, theirs in zip(net.learnable_params, fresh.learnable_params):
        mine.blob.data[...] = theirs.blob.data
    assert_same(passes(net, 4), expected)
    assert crew(net) and pid not in crew(net)


class Picky(TanH):
    """Refuses a value."""

    refused = 1000
    error: Exception = ValueError()

    def divisible(self):
        return True

    def forward(self, bottom, top):
        super().forward(bottom, top)
        if (bottom[0].data == self.refused).any():
            raise self.error


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ShapeError("no", hint="Try yes."), ShapeError, '"tanh": no\n  Try yes.'),
        (ZeroDivisionError("by zero"), ZeroDivisionError, "by zero"),
        (Unsendable(1, 2), RuntimeError, "Unsendable: 1"),
    ],
)
def test_an_error_in_a_worker_is_the_callers(monkeypatch, error, kind, message):
    monkeypatch.setitem(layer._registry, "TanH", Picky)
    monkeypatch.setattr(Picky, "error", error)
    net = build()
    passes(net, 2)
    assert crew(net)
    net.blobs["ip"].data[4, 0] = Picky.refused  # an item of the worker's part
    with pytest.raises(kind) as caught:
        net.forward(start="tanh")
    assert message in str(caught.value)
    if sys.version_info >= (3, 11):
        assert "raise self.error" in caught.value.__notes__[0]  # the worker's own traceback
    net.forward()  # which makes the value anew


def test_an_error_of_the_callers_own_part_stays_what_it_is(monkeypatch):
    monkeypatch.setitem(layer._registry, "TanH", Picky)
    monkeypatch.setattr(Picky, "error", ConnectionRefusedError("the camera is off"))
    net = build()
    passes(net, 2)
    net.blobs["ip"].data[0, 0] = Picky.refused
    with pytest.raises(ConnectionRefusedError, match="the camera is off"):
        net.forward(start="tanh")


def test_an_interrupt_ends_the_workers(monkeypatch):
    net = build()
    passes(net, 2)
    (pid,) = crew(net)
    first = net._parts.at(1).parts[0]

    def interrupted(backward, layers):
        raise KeyboardInterrupt

    monkeypatch.setattr(first, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.forward()
    assert pid not in children()
    monkeypatch.undo()
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 0)
    net.forward_backward()
    assert crew(net) and crew(net) != [pid]


def test_a_fork_of_somebody_elses_has_blobs_of_its_own():
    net = build()
    passes(net, 2)
    before = net.blobs["conv1"].data.copy()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            net.blobs["x"].data[...] = 1
            net.forward_backward()
            net.forward_backward()
            same = np.array_equal(net.blobs["conv1"].data[0], net.blobs["conv1"].data[4])
            os.write(writes, b"1" if same and not np.array_equal(net.blobs["conv1"].data, before) else b"0")
        finally:
            os._exit(0)
    os.close(writes)
    assert os.read(reads, 1) == b"1"
    os.close(reads)
    os.waitpid(child, 0)
    np.testing.assert_array_equal(net.blobs["conv1"].data, before)
    net.forward()
    np.testing.assert_array_equal(net.blobs["conv1"].data, conv1_of(net))


def conv1_of(net: Net) -> np.ndarray:
    """conv1 as a fresh net computes it from this one's input and weights."""
    other = build()
    for mine, theirs in zip(other.learnable_params, net.learnable_params):
        mine.blob.data[...] = theirs.blob.data
    other.blobs["x"].data[...] = net.blobs["x"].data
    other.forward(end="conv1")
    return other.blobs["conv1"].data


def test_a_fork_of_somebody_elses_is_a_snapshot():
    net = build()
    passes(net, 2)
    blob = net.blobs["x"]
    blob.data[...] = 1
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b"1" if (blob.data == 1).all() else b"0")
        os._exit(0)
    blob.data[...] = 2
    assert os.read(reads, 1) == b"1"
    for end in (reads, writes):
        os.close(end)
    os.waitpid(child, 0)
    assert (blob.data == 2).all()


def test_workers_keep_no_pipe_of_their_parent_open():
    net = build()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as cat:
        passes(net, 2)
        assert crew(net)
        cat.stdin.close()
        assert cat.wait(timeout=10) == 0


def test_workers_hold_no_memory_of_other_nets():
    def shared_by(pid: int) -> int:
        return int(re.search(r"RssShmem:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])

    large = NET.replace("dim: 12 dim: 12", "dim: 96 dim: 96")
    first = build(large)
    passes(first, 2)
    second = build()
    passes(second, 2)
    assert shared_by(*crew(second)) < shared_by(*crew(first)) / 8


@pytest.mark.parametrize("count", [1, 4])
def test_forks_beside_forks(count):
    """Somebody forks in a thread while workers are forked: no child lacks pages or writes to the parent's."""
    stop, bad = threading.Event(), []
    blob = Blob((1000,), NumpyEngine(2))
    blob.data[...] = 1
    assert memory.share(blob.flat())

    def fork_and_look():
        while not stop.is_set():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                try:
                    blob.data[...] += 1
                    os._exit(0 if (blob.data == 2).all() else 1)
                finally:
                    os._exit(2)
            if os.waitpid(child, 0)[1]:
                bad.append(child)

    threads = [threading.Thread(target=fork_and_look) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            passes(build(), 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not bad and (blob.data == 1).all()


def test_workers_end_when_their_parent_is_killed():
    script = (
        "from caffepy.passes import divided as parts\n"
        "from tests.passes import nets as t\n"
        "parts.LEAST_ELEMENTS = 0\n"
        "nets = [t.build(), t.build()]\n"
        "for net in nets: t.passes(net, 2)\n"
        "print(*[pid for net in nets for pid in t.crew(net)], flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    until = time.time() + 10
    while any(_running(pid) for pid in pids):
        assert time.time() < until
        time.sleep(0.01)


def _running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
