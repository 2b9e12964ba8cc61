"""Files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caffepy import permissions
from caffepy.errors import CaffeError, DataError, SnapshotError, did_you_mean, nearest
from caffepy.temporary import temporary_file, temporary_name


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


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary name beside `path`; when the block ends it is flushed to disk and takes the final name.

    An error, or a crash at any moment, leaves `path` as it was. A link of that name is replaced, not followed.
    """
    path = Path(path)
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
