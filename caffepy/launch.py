"""Starts the processes of a training on this machine, waits for them, and says which one was lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from caffepy.errors import CaffeError

_PATIENCE = 10.0
"""Seconds that the others have to say that one is lost, before they are ended."""
_PASSED_ON = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class WorkerLostError(CaffeError):
    """A process of a training that several share is gone."""


def launch(count: int, arguments: Sequence[str]) -> None:
    """Run `caffepy ARGUMENTS` in `count` processes that torch.distributed can join, until all have ended.

    Signals are passed on to all. Raises WorkerLostError when one ends otherwise than well, and ends the rest.
    """
    command = [sys.executable, "-m", "caffepy", *arguments]
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    # A session of their own: a Ctrl-C on the terminal reaches them once, through us.
    workers = [
        subprocess.Popen(
            command, env={**os.environ, **meeting, "RANK": str(i), "LOCAL_RANK": str(i)}, start_new_session=True
        )
        for i in range(count)
    ]
    with _passing_signals_on(workers):
        try:
            lost = _wait(workers)
        finally:
            _end(workers)
    if lost is not None:
        raise WorkerLostError(
            f"process {lost} of {count} {_how(workers[lost].returncode)}, so that the others were stopped",
            hint="Look for its message above. The same command with --resume goes on from the newest snapshot.",
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _passing_signals_on(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
    def pass_on(number, frame) -> None:
        for worker in workers:
            worker.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(workers: Sequence[subprocess.Popen]) -> int | None:
    """The number of the first process found to have failed; None when all have ended well."""
    while True:
        codes = [worker.poll() for worker in workers]
        # One that was killed is the cause, one that exits with an error perhaps only its consequence.
        failed = sorted((i for i, code in enumerate(codes) if code), key=lambda i: codes[i])
        if failed:
            return failed[0]
        if None not in codes:
            return None
        time.sleep(0.05)


def _end(workers: Sequence[subprocess.Popen]) -> None:
    """Let the processes end by themselves for a while, then end them."""
    if any(worker.returncode for worker in workers):
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and any(worker.poll() is None for worker in workers):
            time.sleep(0.05)
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
    for worker in workers:
        worker.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
