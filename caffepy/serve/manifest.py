"""manifest.json of a version: size and SHA-256 of each file. Written last, so that it says the rest is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from caffepy.errors import SnapshotError
from caffepy.files import open_file, read_file
from caffepy.serve.servable import MANIFEST


def of(folder: Path, names: Iterable[str]) -> bytes:
    """The manifest of these files."""
    files = {name: {"size": (folder / name).stat().st_size, "sha256": digest(folder / name)} for name in sorted(names)}
    return json.dumps({"files": files}, indent=1).encode()


def digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:  # Python 3.10
    found = hashlib.sha256()
    while chunk := file.read(1 << 20):
        found.update(chunk)
    return found.hexdigest()


def check(folder: Path) -> None:
    """Raises SnapshotError if a file is not the one that the folder's manifest, where there is one, speaks of."""
    path = folder / MANIFEST
    if not path.exists():
        return
    for name, said in read(read_file(path), str(path)).items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            raise SnapshotError(f'"{name}" is missing, the manifest names it', where=str(folder)) from None
        if size != said["size"]:
            raise SnapshotError(f'"{name}" has {size} bytes, the manifest says {said["size"]}', where=str(folder))
        if digest(folder / name) != said["sha256"]:
            raise SnapshotError(f'"{name}" is not the file of the manifest: its SHA-256 differs', where=str(folder))


def read(data: bytes, where: str) -> dict[str, dict]:
    """Size and SHA-256 by plain file name."""
    try:
        files = json.loads(data)["files"]
        fine = all("/" not in name and said["size"] >= 0 and said["sha256"] for name, said in files.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise SnapshotError("this is no manifest", where=where)
    return files
