"""Ctrl-C: once for snapshots of all that runs and the end, twice for the end."""

from __future__ import annotations

import os
import signal
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from caffepy.search.processes import Pool


class Interrupts:
    """Within the block SIGINT and SIGTERM stop the processes of a pool; `count` is how often one has come."""

    def __init__(self, pool: Pool):
        self.pool, self.count = pool, 0

    def __enter__(self) -> Interrupts:
        self._before: dict[int, Any] = {}
        if current_thread() is main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, previous in self._before.items():
            signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        os.write(2, b"stopping: what runs writes a snapshot; again = stop now without\n")
        self.pool.stop()
