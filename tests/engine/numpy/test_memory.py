"""Pages that processes share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from caffepy.engine import workers
from caffepy.engine.numpy import memory

pytestmark = pytest.mark.skipif(not memory.can_share, reason="memory is shared on Linux alone")


def test_shared_memory_keeps_its_place_and_its_contents():
    array = memory.zeros(5000)
    array[:] = np.arange(5000)
    view = array[10:20]
    address = array.ctypes.data
    assert memory.share(view) and memory.share(array)
    assert array.ctypes.data == address
    np.testing.assert_array_equal(array, np.arange(5000))
    child = os.fork()
    if child == 0:  # somebody else's: what it writes is its own
        view[:] = -1
        os._exit(0)
    os.waitpid(child, 0)
    np.testing.assert_array_equal(view, np.arange(10, 20))
    both = workers.Workers(1, lambda k, value: view.fill(value), [array])
    both.run(lambda: None, 3.5)
    assert (view == 3.5).all() and array[9] == 9 and array[20] == 20


def test_memory_of_others_cannot_be_shared():
    assert not memory.share(np.zeros(10, np.float32))


def test_what_nobody_has_written_to_takes_no_memory():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    array = memory.zeros(64 << 20)
    memory.share(array)
    assert resident() - before < 32 << 20
