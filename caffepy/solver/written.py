"""Which files snapshots have written: those alone may a snapshot write over."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from caffepy import files
from caffepy.errors import SnapshotError
from caffepy.net import weights
from caffepy.proto.scan import first_fields

_NAME = re.compile(r"_(iter_\d+|best)((_average)?\.caffemodel(\.h5)?|\.solverstate(\.h5)?|\.resume)")
_KEEP = "Move it, set another snapshot_prefix, or train with --force."


def found(prefix: str) -> Iterator[str]:
    """The files that have names of snapshots of this prefix, whatever is in them."""
    folder, start = os.path.split(prefix)
    for name in os.listdir(folder or "."):
        if name.startswith(start) and _NAME.fullmatch(name, len(start)):
            yield os.path.join(folder, name)


def by_stem(prefix: str) -> dict[str, list[str]]:
    """The files of the snapshots of this prefix by their names without suffixes, but for files of another kind."""
    stems: dict[str, list[str]] = {}
    for path in sorted(found(prefix)):
        with suppress(SnapshotError):
            check_replaceable(path)
            stems.setdefault(stem(path), []).append(path)
    return stems


def stem(path: str) -> str:
    """`snap_iter_5` of `snap_iter_5.caffemodel.h5` and `snap_iter_5_average.caffemodel.h5`."""
    return os.path.splitext(path.removesuffix(".h5"))[0].removesuffix("_average")


def is_state(path: str) -> bool:
    return path.removesuffix(".h5").endswith(".solverstate")


def check_replaceable(path: str) -> None:
    """Raises SnapshotError if there is a file of this name that no snapshot has written."""
    kind = next(kind for kind in _KINDS if path.removesuffix(".h5").endswith(f".{kind}"))
    is_one = weights.is_hdf5 if path.endswith(".h5") else _KINDS[kind]
    files.check_replaceable(path, kind, is_one, SnapshotError, _KEEP)


def _is_model(path: str) -> bool:
    layers, old_layers = (100, 2), (2, 2)
    return bool(first_fields(path) & {layers, old_layers})


def _is_state(path: str) -> bool:
    iteration = 1, 0
    return iteration in first_fields(path)


def _is_resume(path: str) -> bool:
    with files.open_file(path) as file:
        return file.read(2) == b'{"'


_KINDS = {"caffemodel": _is_model, "solverstate": _is_state, "resume": _is_resume}
