"""Starts the processes of a training on this machine, waits for them, and says which one was lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from caffepy.errors import CaffeError

_PATIENCE = 10.0
"""Seconds that the others have to say that one is lost, before they are ended."""
_LAUNCHED = "CAFFEPY_LAUNCHED"
"""The variable that tells a process whose standard input ends with its launcher."""
_PASSED_ON = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class WorkerLostError(CaffeError):
    """A process of a training that several share is gone."""


def launch(count: int, arguments: Sequence[str]) -> None:
    """Run `caffepy ARGUMENTS` in `count` processes that torch.distributed can join, until all have ended.

    Signals are passed on to all. Raises WorkerLostError when one ends otherwise than well, and ends the rest.
    """
    command = [sys.executable, "-m", "caffepy", *arguments]
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), _LAUNCHED: "1"}
    workers: list[subprocess.Popen] = []
    with _signals() as heard:
        try:
            for i in range(count):
                env = {**os.environ, **meeting, "RANK": str(i), "LOCAL_RANK": str(i)}
                # A session of their own: a Ctrl-C on the terminal reaches them once, through us. Their standard input
                # ends when we do, however that happens: see `end_with_launcher`.
                workers.append(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True))
            lost = _wait(workers, heard)
        finally:
            _end(workers, heard)
    if lost is not None:
        raise WorkerLostError(
            f"process {lost} of {count} {_how(workers[lost].returncode)}, so that the others were stopped",
            hint="Look for its message above. The same command with --resume goes on from the newest snapshot.",
        )


def end_with_launcher() -> None:
    """From now on this process ends when the one that `launch`ed it is gone, even by SIGKILL. Else does nothing."""
    if os.environ.pop(_LAUNCHED, None):
        threading.Thread(target=_end_after_stdin, daemon=True).start()


def _end_after_stdin() -> None:
    os.read(0, 1)
    os.write(2, b"error: the process that started this one is gone\n")
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that come, from before the first process is there, for `_pass_on`."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: heard.append(number)) for number in _PASSED_ON}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(heard: list[int], workers: Sequence[subprocess.Popen]) -> None:
    while heard:
        number = heard.pop(0)
        for worker in workers:
            worker.send_signal(number)


def _wait(workers: Sequence[subprocess.Popen], heard: list[int]) -> int | None:
    """The number of the first process found to have failed; None when all have ended well."""
    while True:
        _pass_on(heard, workers)
        codes = [worker.poll() for worker in workers]
        # One that was killed is the cause, one that exits with an error perhaps only its consequence.
        failed = [(code, i) for i, code in enumerate(codes) if code]
        if failed:
            return min(failed)[1]
        if None not in codes:
            return None
        time.sleep(0.05)


def _end(workers: Sequence[subprocess.Popen], heard: list[int]) -> None:
    """Let the processes end by themselves for a while, then end them."""
    if any(worker.returncode for worker in workers):
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and any(worker.poll() is None for worker in workers):
            _pass_on(heard, workers)
            time.sleep(0.05)
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
    for worker in workers:
        worker.wait()
        if worker.stdin:
            worker.stdin.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
