"""What is being written, under names of its own; and what killed processes left of that."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def temporary_name(path: str | os.PathLike[str]) -> Path:
    """Where what is to be called `path` is written by this process."""
    path = Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def temporary_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file beside `path`, which nobody else can have put there, to be renamed to that in the block."""
    temporary = temporary_name(path)
    sweep(path)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _held(temporary):
            yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder beside `path`, to be renamed to that in the block; what is left of it at the end is removed."""
    temporary = temporary_name(path)
    sweep(path)
    temporary.mkdir()
    try:
        with _held(temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(prefix: str | os.PathLike[str]) -> None:
    """Remove what killed processes were writing under names that begin with `prefix`.

    A file in use is locked by its process; where locks do not reach, on other machines, the process's number counts.
    """
    folder, start = os.path.split(os.fspath(prefix))
    with suppress(OSError):
        for entry in list(os.scandir(folder or ".")):
            found = _TEMPORARY.fullmatch(entry.name)
            if found and found[1].startswith(start) and _is_abandoned(entry.path, int(found[2])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


_TEMPORARY = re.compile(r"\.(.+)\.(\d{1,9})\.tmp", re.DOTALL)


def _is_abandoned(path: str, owner: int) -> bool:
    if fcntl is None:
        return False
    if owner != os.getpid():
        try:
            os.kill(owner, 0)
            return False
        except ProcessLookupError:
            pass
        except OSError:  # another user's process
            return False
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """In the block, this process's lock on a file or folder says that it is in use."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file, which ends with its last descriptor; whether nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system without locks
