"""Processes forked from this one that compute beside it, on memory that they share."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import Any
from weakref import WeakSet, finalize

from caffepy.engine import memory
from caffepy.errors import CaffeError, ConfigError

# Seconds that a process asks again and again whether there is work before it sleeps: being woken takes 100
# microseconds on a virtual machine, several times what is computed between two layers.
PATIENCE = 5e-4

_connections: WeakSet[Connection] = WeakSet()
"""This process's ends: a child closes them, so that each worker sees when its own parent has gone."""
_forking = False


def available() -> bool:
    """Whether batches may be divided between processes: on Linux, unless CAFFEPY_WORKERS is 0."""
    chosen = os.environ.get("CAFFEPY_WORKERS", "1")
    if chosen not in ("0", "1"):
        raise ConfigError(
            f'the environment variable CAFFEPY_WORKERS is "{chosen}"', hint="0: threads alone; 1: processes, too."
        )
    return chosen == "1" and memory.can_share


class Workers:
    """`count` forked processes that call `serve(k, *command)`, k = 0 .. count - 1, for each command.

    They hold what this process held when they were forked, and see what it writes to shared memory (`memory.share`).
    They end with this object and with this process.
    """

    def __init__(self, count: int, serve: Callable[..., None]):
        self._connections: list[Connection] = []
        self._children: list[int] = []
        self._owner = os.getpid()
        self._end = finalize(self, _end, self._owner, self._children, self._connections)
        for k in range(count):
            mine, theirs = Pipe()
            _connections.add(mine)
            self._children.append(_fork(partial(_work, theirs, partial(serve, k))))
            theirs.close()
            self._connections.append(mine)

    def run(self, own: Callable[[], None], *command: Any) -> None:
        """Send all workers the command, call `own` meanwhile and wait for them; raises the first error of any.

        After an error the workers have ended: nobody knows how far they have come.
        """
        try:
            for connection in self._connections:
                connection.send(command)
            own()
            errors = [_receive(connection) for connection in self._connections]
        except (EOFError, ConnectionError):
            self._end()
            raise CaffeError(
                "a process that computed part of the batch has ended, killed perhaps for want of memory",
                hint="Make batches smaller, or set CAFFEPY_WORKERS=0 to compute in one process.",
            ) from None
        except BaseException:
            self._end()
            raise
        for error in errors:
            if error is not None:
                self._end()
                raise error

    @property
    def alive(self) -> bool:
        """Whether there are workers, and they are this process's: not so after an error, and in a fork."""
        return self._end.alive and self._owner == os.getpid()


def _fork(life: Callable[[], None]) -> int:
    """The number of a child that does nothing but to call `life`."""
    global _forking
    _forking = True
    try:
        with memory.shared_alone(), warnings.catch_warnings():
            # Python warns of other threads: they do not run in the child, which calls numpy and nothing of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
            if child == 0:
                try:
                    life()
                finally:
                    os._exit(0)
            return child
    finally:
        _forking = False


def _work(connection: Connection, serve: Callable[..., None]) -> None:
    """The life of a worker, until its parent has gone."""
    for name in ("SIGINT", "SIGHUP"):  # meant for the parent, which has handlers
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in _connections:
        other.close()
    gc.disable()  # a collection would copy the pages of all objects
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            command = _receive(connection)
            answer = None
            try:
                serve(*command)
            except Exception as error:
                answer = _sendable(error)
            connection.send(answer)


def _receive(connection: Connection) -> Any:
    until = time.perf_counter() + PATIENCE
    while not connection.poll() and time.perf_counter() < until:
        pass
    return connection.recv()


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end(owner: int, children: list[int], connections: list[Connection]) -> None:
    if os.getpid() != owner:  # a fork of the owner has inherited the object, not the children
        return
    for connection in connections:
        connection.close()
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _after_fork() -> None:
    """In a child that somebody else has forked: it goes on alone, with the blobs as they are."""
    if not _forking:
        memory.keep_to_oneself()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
