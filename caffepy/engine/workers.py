"""Processes forked from this one that compute beside it, on memory that they share."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import Any
from weakref import WeakSet, finalize

import numpy as np

from caffepy.engine.numpy import memory
from caffepy.errors import CaffeError, ConfigError

# Seconds that a process asks again and again whether there is work before it sleeps: being woken takes 100
# microseconds on a virtual machine, several times what is computed between two layers.
PATIENCE = 5e-4

_connections: WeakSet[Connection] = WeakSet()
"""This process's ends."""


def available() -> bool:
    """Whether processes may compute beside this one: on Linux, unless CAFFEPY_WORKERS is 0."""
    chosen = os.environ.get("CAFFEPY_WORKERS") or "1"
    if chosen not in ("0", "1"):
        raise ConfigError(
            f'the environment variable CAFFEPY_WORKERS is "{chosen}"', hint="0: threads alone; 1: processes, too."
        )
    return chosen == "1" and memory.can_share


class Workers:
    """`count` forked processes that call `serve(k, *command)`, k = 0 .. count - 1, for each command.

    They hold what this process held when they were forked, and see what it writes to `arrays`, which are shared
    (`memory.share`); other blobs' memory they do not have. They end with this object and with this process.
    """

    def __init__(self, count: int, serve: Callable[..., None], arrays: Sequence[np.ndarray]):
        self.processes: list[int] = []
        self._connections: list[Connection] = []
        self._owner = os.getpid()
        self._end = finalize(self, _end, self._owner, self.processes, self._connections)
        for k in range(count):
            mine, theirs = Pipe()
            _connections.add(mine)
            self._connections.append(mine)
            self.processes.append(_fork(partial(_work, theirs, partial(serve, k)), arrays))
            theirs.close()

    def run(self, own: Callable[[], None], *command: Any) -> None:
        """Send all workers the command, call `own` meanwhile and wait for them; raises the first error of any.

        After an error the workers have ended: nobody knows how far they have come.
        """
        try:
            with _lost_workers():
                for connection in self._connections:
                    connection.send(command)
            own()
            with _lost_workers():
                errors = [_receive(connection) for connection in self._connections]
            for error in errors:
                if error is not None:
                    raise error
        except BaseException:
            self._end()
            raise

    @property
    def alive(self) -> bool:
        """Whether there are workers, and they are this process's: not so after an error, and in a fork."""
        return self._end.alive and self._owner == os.getpid()


@contextlib.contextmanager
def _lost_workers():
    try:
        yield
    except (EOFError, ConnectionError):
        raise CaffeError(
            "a process that computed part of the batch has ended, killed perhaps for want of memory",
            hint="Make batches smaller, or set CAFFEPY_WORKERS=0 to compute in one process.",
        ) from None


def _end(owner: int, processes: list[int], connections: list[Connection]) -> None:
    if os.getpid() != owner:  # a fork of the owner has inherited the object, not the children
        return
    for connection in connections:
        connection.close()
    for process in processes:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # somebody else has waited for it
            if os.waitpid(process, os.WNOHANG) == (0, 0):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


# The life of a worker


def _fork(life: Callable[[], None], arrays: Sequence[np.ndarray]) -> int:
    """The number of a child that does nothing but to call `life`; of all blobs' memory it has `arrays` alone."""
    with _forks.of_a_worker(arrays), warnings.catch_warnings():
        # Python warns of other threads: they do not run in the child, which calls numpy and nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            try:
                life()
            finally:
                os._exit(0)
        return child


def _work(connection: Connection, serve: Callable[..., None]) -> None:
    """Serve commands until the parent has gone."""
    for name in ("SIGINT", "SIGHUP"):  # meant for the parent, which has handlers
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Who reads from the other end of a pipe of the parent's must see when the parent closes it.
    os.closerange(3, connection.fileno())
    os.closerange(connection.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
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
    where = f"In the process that computed another part of the batch:\n{traceback.format_exc()}"
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if hasattr(error, "add_note"):  # Python 3.11
        error.add_note(where)
    return error


# What a fork does to memory


class _Forks:
    """Sees to it that a worker gets the memory it is to share, and a child that somebody else forks its own copy.

    Such a child has the blobs as they were when it was forked: the parent goes on when they are copied. All happens in
    the hooks of os.fork, the lock of the memory included: other modules' hooks take locks, too, and all in one order.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()
        # Of the fork that holds the lock:
        self._during: contextlib.ExitStack | None = None
        self._pipe: tuple[int, int] | None = None

    @contextlib.contextmanager
    def of_a_worker(self, arrays: Sequence[np.ndarray]):
        """What this thread forks is a worker."""
        self._of_thread.arrays = arrays
        try:
            yield
        finally:
            self._of_thread.arrays = None

    @property
    def _arrays(self) -> Sequence[np.ndarray] | None:
        return getattr(self._of_thread, "arrays", None)

    def before(self) -> None:
        memory.lock.acquire()
        if self._arrays is not None:
            self._during = contextlib.ExitStack()
            self._during.enter_context(memory.leaving_out(self._arrays))
        elif memory.any_shared():
            with contextlib.suppress(OSError):  # too many open files: then the parent does not wait
                self._pipe = os.pipe()

    def in_parent(self) -> None:
        during, self._during = self._during, None
        pipe, self._pipe = self._pipe, None
        if during is not None:
            during.close()
        if pipe is not None:
            os.close(pipe[1])  # with the lock: the next child, another thread's, must not have it
        memory.lock.release()
        if pipe is not None:
            os.read(pipe[0], 1)  # nothing, when the child has closed its end
            os.close(pipe[0])

    def in_child(self) -> None:
        if self._arrays is not None:
            return
        pipe, self._pipe = self._pipe, None
        memory.lock.release()
        for connection in list(_connections):
            connection.close()
        try:
            memory.keep_to_oneself()
        except BaseException as error:
            # To go on would be to write to the parent's blobs.
            print(f"caffepy: the forked process ends, it cannot copy the blobs: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        for end in pipe or ():
            os.close(end)


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_parent=_forks.in_parent, after_in_child=_forks.in_child)
