"""Files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caffepy.errors import did_you_mean


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary name beside `path`; when the block ends it is flushed to disk and takes the final name.

    An error, or a crash at any moment, leaves `path` as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield str(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def near_names(path: str | os.PathLike[str]) -> str:
    """A sentence that offers the file of the nearest name in the same folder."""
    folder = Path(path).parent
    if not folder.is_dir():
        return f"There is no folder {folder}."
    return did_you_mean(Path(path).name, (p.name for p in folder.iterdir()))
