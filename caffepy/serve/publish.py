"""A trained net as a version that can be served: checked, then written whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from caffepy.errors import CaffeError, ConfigError, DataError
from caffepy.files import near_names
from caffepy.proto import text
from caffepy.proto.settings import current
from caffepy.serve import manifest, recommender
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.model import LoadedModel, load
from caffepy.serve.servable import DEPLOY, MANIFEST, SETTINGS
from caffepy.serve.stores import Local, Remote, open_store
from caffepy.temporary import temporary_folder


def publish(
    base: str,
    weights: str,
    model: str = "",
    version: int | None = None,
    settings: Servable | None = None,
    extra: Mapping[str, str] | None = None,
) -> tuple[int, LoadedModel]:
    """Write BASE/VERSION/ and return its number and the model as a server would load it.

    `version` is by default the next. `extra` are files that `settings` names, or warmup.h5, by their names there.
    Raises CaffeError, having written nothing, for what could not be served.
    """
    store = open_store(base)
    files = {f"model{ending(weights)}": weights} | dict(extra or {})
    if model:
        files = _tables(model) | files | {DEPLOY: model}
    for path in files.values():
        if not Path(path).is_file():
            raise DataError("there is no such file", where=path, hint=near_names(path))
    if isinstance(store, Local):
        Path(base).mkdir(parents=True, exist_ok=True)
        number = _free(store, version)
        with temporary_folder(Path(base) / f"{number}") as folder:
            found = _fill(folder, files, settings)
            _rename(folder, Path(base) / f"{number}")
        return number, found
    assert isinstance(store, Remote)
    number = _free(store, version)
    folder = Path(tempfile.mkdtemp(prefix="caffepy-publish-"))
    try:
        found = _fill(folder, files, settings)
        store.put(folder, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return number, found


def _tables(model: str) -> dict[str, str]:
    """The tables that a recommender reads, by the names of their files."""
    if not Path(model).is_file():
        return {}
    layers = text.read_net(model).param.layer
    return {Path(source).name: source for source in recommender.tables_of(layers)} if recommender.is_one(layers) else {}


def ending(weights: str) -> str:
    """The ending that a file of weights has in a version."""
    for known in (".onnx", ".caffemodel.h5", ".caffemodel"):
        if weights.endswith(known):
            return known
    raise ConfigError(
        f'"{os.path.basename(weights)}" is no name of weights', hint="It ends in .caffemodel, .caffemodel.h5 or .onnx."
    )


def _free(store: Local | Remote, version: int | None) -> int:
    """The number of the new version."""
    try:
        there = store.versions()
    except DataError:
        if isinstance(store, Local):
            raise
        there = {}  # an object store has no folder before its first file
    if version is None:
        return max(there, default=0) + 1
    if version < 0:
        raise ConfigError(f"a version is a whole number, at least 0, got {version}")
    if version in there:
        raise ConfigError(
            f"version {version} is there already", where=store.base, hint="Leave out --version to get the next number."
        )
    return version


def _fill(folder: Path, files: Mapping[str, str], settings: Servable | None) -> LoadedModel:
    """Copy the files, load what they make, and write the manifest."""
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
    if DEPLOY in files and current().words:
        (folder / DEPLOY).write_text(text.to_text(text.read_net(files[DEPLOY]).param), encoding="utf-8")
    if settings is not None and settings.ListFields():
        (folder / SETTINGS).write_text(text.to_text(settings), encoding="utf-8")
    try:
        found = load(folder)
    except CaffeError as error:
        raise _renamed(error, folder, files) from None
    (folder / MANIFEST).write_bytes(manifest.of(folder, os.listdir(folder)))
    for written in folder.iterdir():
        with open(written, "rb+") as file:
            os.fsync(file.fileno())
    return found


def _renamed(error: CaffeError, folder: Path, files: Mapping[str, str]) -> CaffeError:
    """The error with the user's own file names."""
    for name, path in files.items():
        error.where = error.where.replace(str(folder / name), path)
        error.message = error.message.replace(str(folder / name), path)
    error.where = error.where.replace(str(folder), "")
    return error


def _rename(folder: Path, target: Path) -> None:
    try:
        os.rename(folder, target)
    except OSError:
        raise ConfigError(f"version {target.name} is there already", where=str(target.parent)) from None
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
