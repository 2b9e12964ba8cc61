"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caffepy import permissions
from caffepy.errors import CaffeError, DataError, SnapshotError, did_you_mean, nearest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises DataError if a file cannot be put at `path`: to be asked before long work, not after it."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise DataError("this is a folder, not a file", where=str(path), hint="Give the name of a file.")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} to write into", where=str(path), hint="Make it first.")
    if not os.access(folder, os.W_OK):
        raise DataError(f"there is no permission to write into {folder.absolute()}", where=str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All of a file of weights or the like. Raises SnapshotError with the nearest name where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror}", where=str(path), hint=near_names(path)) from None


def temporary_name(path: str | os.PathLike[str]) -> Path:
    """Where what is to be called `path` is written by this process."""
    path = Path(path)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary name beside `path`; when the block ends it is flushed to disk and takes the final name.

    An error, or a crash at any moment, leaves `path` as it was. A link of that name is replaced, not followed.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        with _made(temporary):
            yield str(temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk, which only the call that writes notices
            error.filename = str(path)
        raise
    _sync_folder(path.parent)


@contextmanager
def _made(temporary: Path) -> Iterator[None]:
    """The empty file `temporary`, which nobody else can have put there, and which says as long that it is in use."""
    if _is_abandoned(str(temporary), os.getpid()):  # by another process that had our number
        temporary.unlink()
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder beside `path`, to be renamed to that in the block; what is left of it at the end is removed."""
    temporary = temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield temporary
    finally:
        os.close(descriptor)
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


_TEMPORARY = re.compile(r"\.(.+)\.(\d{1,10})\.tmp", re.DOTALL)


def _is_abandoned(path: str, owner: int) -> bool:
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
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file, which ends with its last descriptor; whether nobody else has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system without locks


def check_replaceable(
    path: str | os.PathLike[str], kind: str, is_one: Callable[[str], bool], error: type[CaffeError], hint: str
) -> None:
    """Raises `error` if a file at `path` is no `kind` as `is_one` knows it, so that to write it would lose another's.

    An empty file is nobody's loss. `permissions.allow_overwriting`, which --force calls, allows all.
    """
    path = os.fspath(path)
    if permissions.overwriting() or not os.path.lexists(path):
        return
    if os.path.isfile(path) and (not os.path.getsize(path) or is_one(path)):
        return
    raise error(f"there is a file of this name that is no {kind}: it is not written over", where=path, hint=hint)


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An h5py.File to be filled in the block, written to `path` at its end.

    It grows in memory: on a full disk h5py fails with errors of its own kind, and once more when it closes the file.
    """
    import h5py

    with h5py.File(os.fspath(path), "w", driver="core", backing_store=False, block_size=1 << 24) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    Path(path).write_bytes(image)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def near_names(path: str | os.PathLike[str]) -> str:
    """A sentence that offers the file of the nearest name in the same folder; empty if the name is right."""
    path = Path(path)
    try:
        if path.exists():
            return ""
        if not path.parent.is_dir():
            place = "" if path.is_absolute() else f" in {Path.cwd()}, where the command was started"
            return f"There is no folder {path.parent}{place}."
        names = [p.name for p in path.parent.iterdir() if p.name != path.name]
    except OSError:  # a folder that may not be looked into
        return ""
    # Compared without the extension that they share: it would make any two names near.
    stems = {Path(name).stem: name for name in names if Path(name).suffix == path.suffix}
    if near := nearest(path.stem, stems):
        return f'Did you mean "{stems[near]}"?'
    return did_you_mean(path.name, (name for name in names if name not in stems.values()))
