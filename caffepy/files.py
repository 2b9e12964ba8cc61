"""Files that are read to their end, and files that are whole or absent."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

from caffepy import limits, permissions
from caffepy.errors import CaffeError, DataError, SnapshotError, did_you_mean, nearest
from caffepy.temporary import temporary_file, temporary_name


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """The file `path`, to be read; all that files and users name is opened here.

    Raises OSError for what cannot be read, and for devices: many never end, and some do things when they are opened.
    """
    return open(path, "rb", opener=_open_no_device)


def _open_no_device(path: str, flags: int) -> int:
    _refuse_device(os.stat(path), path)
    descriptor = os.open(path, flags)
    try:
        _refuse_device(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_device(found: os.stat_result, path: str) -> None:
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        raise OSError(errno.EINVAL, "It is a device, not a file", path)


def read_file(path: str | os.PathLike[str]) -> bytes:
    """All of a file, or of what comes through a pipe. Raises OSError as `open_file`, DataError for what is too long."""
    with open_file(path) as file:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            limits.check(found.st_size, "the file", where=os.fspath(path))
            return file.read()
        parts, size = [], 0
        while part := file.read(1 << 20):
            size += len(part)
            limits.check(size, "what comes through the pipe", where=os.fspath(path))
            parts.append(part)
        return b"".join(parts)


def unzipped(data: bytes, where: str) -> bytes:
    """What was gzipped; other data as they are. Raises EOFError, zlib.error and OSError for what is damaged."""
    if data[:2] != b"\x1f\x8b":
        return data
    parts, size = [], 0
    with gzip.open(BytesIO(data)) as file:
        while part := file.read(1 << 20):
            size += len(part)
            limits.check_unpacked(size, len(data), "the gzipped file", where=where)
            parts.append(part)
    return b"".join(parts)


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
    """The text of a file, lines ended by `\\n` whatever ends them there. Raises as `read_file`."""
    return read_file(path).decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises DataError if a file cannot be put at `path`: to be asked before long work, not after it."""
    folder = Path(path).parent
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise DataError("there is no permission to write to it", where=str(path))
        return
    if Path(path).is_dir():
        raise DataError("this is a folder, not a file", where=str(path), hint="Give the name of a file.")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} to write into", where=str(path), hint="Make it first.")
    if not os.access(folder, os.W_OK):
        raise DataError(f"there is no permission to write into {folder.absolute()}", where=str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All of a file of weights or the like. Raises SnapshotError with the nearest name where it cannot be read."""
    try:
        return read_file(path)
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror}", where=str(path), hint=near_names(path)) from None


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary name beside `path`; when the block ends it is flushed to disk and takes the final name.

    An error, or a crash at any moment, leaves `path` as it was. A link of that name is replaced, not followed. Into a
    device or a pipe the bytes are written at the end.
    """
    path = Path(path)
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, path.name)
            temporary.touch()
            yield str(temporary)
            with temporary.open("rb") as file, path.open("wb") as stream:
                shutil.copyfileobj(file, stream)
        return
    try:
        with temporary_file(path) as temporary:
            yield str(temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary_name(path))):  # a full disk, which only the call that writes notices
            error.filename = str(path)
        raise
    _sync_folder(path.parent)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether bytes written to `path` go somewhere else: a device, a pipe, or one of a process's open files.

    Raises OSError for a disk.
    """
    try:
        found = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISBLK(found):
        raise OSError(errno.EINVAL, "It is a disk, not a file", os.fspath(path))
    folder = os.path.realpath(Path(path).parent)  # /dev/stdout is a link to /proc/self/fd/1, perhaps a file
    return not (stat.S_ISREG(found) or stat.S_ISDIR(found)) or folder == "/dev" or folder.startswith("/proc/")


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

    try:
        with h5py.File(os.fspath(path), "w", driver="core", backing_store=False, block_size=1 << 24) as file:
            yield file
            file.flush()
            image = file.id.get_file_image()
    except OSError as error:
        if error.errno is None:  # libhdf5's own: it has nothing but memory here
            raise MemoryError("none is left for an HDF5 file") from None
        raise
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
            return no_folder(path)
        names = [p.name for p in path.parent.iterdir() if p.name != path.name]
    except OSError:  # a folder that may not be looked into
        return ""
    # Compared without the extension that they share: it would make any two names near.
    stems = {Path(name).stem: name for name in names if Path(name).suffix == path.suffix}
    if near := nearest(path.stem, stems):
        return f'Did you mean "{stems[near]}"?'
    return did_you_mean(path.name, (name for name in names if name not in stems.values()))


definitions: deque[Path] = deque(maxlen=4)
"""The folders of the definitions read last: what these name may lie near them, not where the command was started."""


def no_folder(path: Path) -> str:
    """What to say where the folder of `path` is not there; if it is seen elsewhere, where."""
    if path.is_absolute():
        return f"There is no folder {path.parent}."
    said = f"There is no folder {path.parent} in {Path.cwd()}, where the command was started"
    places = dict.fromkeys(place for start in (Path.cwd(), *definitions) for place in (start, *start.parents))
    found = next((place for place in places if (place / path).parent.is_dir()), None)
    return f"{said}, but in {found}: start it there." if found else f"{said}."
