"""Where versions come from: a local folder, or anything that fsspec reads."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from caffepy.errors import CaffeError, DataError, MissingExtraError, did_you_mean
from caffepy.serve import manifest
from caffepy.serve.servable import MANIFEST

SETTLED = 1.0
"""Seconds without a change after which a folder without manifest counts as copied."""


@dataclass(frozen=True)
class SeenVersion:
    """A version as it was seen."""

    print: tuple
    """What changes when its files do."""
    complete: bool
    """Whether it looks like all of it is there."""


class Store(Protocol):
    base: str

    def versions(self) -> dict[int, SeenVersion]:
        """Raises DataError if the base path cannot be read."""

    def fetched(self, version: int) -> Any:
        """A context: the folder with the version's files."""


def open_store(base: str) -> Store:
    return Remote(base) if re.match(r"[a-z][a-z0-9+.-]+(://|::)", base) else Local(base.removeprefix("file://"))


def is_version(name: str) -> bool:
    """Whether the name is that of a version: an integer that an int64 holds, written plainly or with zeros before."""
    return name.isascii() and name.isdecimal() and len(name) < 20 and int(name) < 1 << 63


class Local:
    """BASE/VERSION/ on a file system."""

    def __init__(self, base: str):
        self.base = base

    def versions(self) -> dict[int, SeenVersion]:
        try:
            with os.scandir(self.base) as listed:
                entries = [entry for entry in listed if is_version(entry.name) and entry.is_dir()]
        except OSError as error:
            raise DataError(
                f"cannot read the base path: {error.strerror}", where=self.base, hint=_near(self.base)
            ) from None
        found = {}
        for entry in entries:
            try:
                found[int(entry.name)] = self._seen(entry.path)
            except OSError:  # it went away while we looked
                continue
        return found

    def _seen(self, folder: str) -> SeenVersion:
        with os.scandir(folder) as listed:
            states = [(entry.name, entry.stat()) for entry in listed if entry.is_file()]
        states.sort(key=lambda pair: pair[0])
        seen = tuple((name, state.st_size, state.st_mtime_ns, state.st_ino) for name, state in states)
        changed = max((state.st_ctime for _, state in states), default=time.time())
        whole = any(name == MANIFEST for name, _ in states) or time.time() - changed >= SETTLED
        return SeenVersion(seen, whole)

    @contextmanager
    def fetched(self, version: int) -> Iterator[Path]:
        folder = next((p for p in Path(self.base).iterdir() if is_version(p.name) and int(p.name) == version), None)
        if folder is None:
            raise DataError(f"version {version} is no longer there", where=self.base)
        manifest.check(folder)
        yield folder


class Remote:
    """BASE/VERSION/ in an object store or on a web server, copied for the time of loading."""

    def __init__(self, base: str):
        try:
            import fsspec
        except ImportError:
            raise MissingExtraError("fsspec", "serve", "reading models from a store") from None
        self.base = base
        try:
            self._files, self._root = fsspec.core.url_to_fs(base.rstrip("/"), use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise DataError(f"no such kind of store: {str(error).splitlines()[0]}", where=base) from None
        self._last: dict[int, tuple] = {}

    def versions(self) -> dict[int, SeenVersion]:
        found = {}
        for entry in self._list(self._root):
            name = PurePosixPath(entry["name"].rstrip("/")).name
            if not is_version(name):
                continue
            files = {PurePosixPath(e["name"]).name: e for e in self._list(entry["name"]) if e["type"] == "file"}
            seen = tuple(sorted((file, *_state(e)) for file, e in files.items()))
            if not seen:
                continue
            found[int(name)] = SeenVersion(seen, MANIFEST in files or self._last.get(int(name)) == seen)
        self._last = {version: one.print for version, one in found.items()}
        return found

    def _list(self, path: str) -> list[dict]:
        try:
            return self._files.ls(path, detail=True, **({"refresh": True} if "s3" in self._files.protocol else {}))
        except Exception as error:  # of the store's own types
            raise DataError(f"cannot read the base path: {type(error).__name__}: {error}", where=self.base) from None

    @contextmanager
    def fetched(self, version: int) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="caffepy-serve-"))
        try:
            for entry in self._list(self._root):
                name = PurePosixPath(entry["name"].rstrip("/")).name
                if is_version(name) and int(name) == version:
                    self._copy(entry["name"], folder)
            manifest.check(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, folder: Path, version: int) -> None:
        """Write a version, its manifest last."""
        names = sorted((p.name for p in folder.iterdir()), key=lambda name: (name == MANIFEST, name))
        for name in names:
            try:
                self._files.put_file(str(folder / name), f"{self._root}/{version}/{name}")
            except Exception as error:
                raise DataError(f"cannot write {name}: {type(error).__name__}: {error}", where=self.base) from None

    def _copy(self, path: str, folder: Path) -> None:
        for entry in self._list(path):
            name = PurePosixPath(entry["name"]).name
            if entry["type"] != "file" or name in ("", ".", ".."):
                continue
            try:
                self._files.get_file(entry["name"], str(folder / name))
            except CaffeError:
                raise
            except Exception as error:
                raise DataError(f"cannot copy {name}: {type(error).__name__}: {error}", where=self.base) from None


def _state(entry: dict) -> tuple:
    """What of a listing tells one state of a file from another."""
    kept = ("size", "ETag", "etag", "LastModified", "mtime", "updated", "md5Hash")
    return tuple(str(entry[key]) for key in kept if entry.get(key) is not None)


def _near(base: str) -> str:
    parent = Path(base).absolute().parent
    return did_you_mean(Path(base).name, (p.name for p in parent.iterdir())) if parent.is_dir() else ""
