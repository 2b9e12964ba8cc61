"""One process at a time trains with a prefix of snapshots."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from caffepy.errors import ConfigError
from caffepy.files import open_file
from caffepy.temporary import try_lock

_guard = threading.RLock()  # a garbage collection may release one while another is taken
_held: dict[str, list[int]] = {}
"""By the lock's path: its descriptor, and how many solvers of this process hold it."""


def take(prefix: str) -> Callable[[], None]:
    """Keep other processes from training with this prefix; what is returned ends that, and a killed process does, too.

    Raises ConfigError where one trains. Several solvers of one process may, as one follows another there. Where the
    lock cannot be made (no such locks, another user's file) there is none.
    """
    folder, base = os.path.split(prefix)
    path = os.path.join(os.path.realpath(folder or "."), f".{base}.lock")
    with _guard:
        if path not in _held:
            descriptor = _open(path)
            if descriptor is None:
                raise ConfigError(
                    f'another process{_owner(path)} trains with the snapshot_prefix "{prefix}"',
                    hint="Wait for it, stop it, or set another snapshot_prefix: two would mix their files.",
                )
            _held[path] = [descriptor, 0]
        _held[path][1] += 1
    owner = os.getpid()
    return lambda: _release(path, owner)


def _open(path: str) -> int | None:
    """The lock's descriptor, -1 where locks cannot be had; None while another process has it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError:
            return -1
        if not try_lock(descriptor):
            os.close(descriptor)
            return None
        if _is_there(descriptor, path):
            with suppress(OSError):  # on a full disk it has no number
                os.truncate(descriptor, 0)
                os.write(descriptor, b"%d" % os.getpid())
            return descriptor
        os.close(descriptor)  # its last owner has just removed it


def _is_there(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _release(path: str, owner: int) -> None:
    with _guard:
        if os.getpid() != owner or path not in _held:  # a fork's copy is not the lock
            return
        _held[path][1] -= 1
        if _held[path][1]:
            return
        descriptor, _ = _held.pop(path)
        if descriptor >= 0:
            with suppress(OSError):
                os.unlink(path)
            os.close(descriptor)


def _owner(path: str) -> str:
    try:
        with open_file(path) as file:
            return f" ({int(file.read(20))})"
    except (OSError, ValueError):
        return ""
