"""The folder that a conversion writes its tables to, where an earlier one may have left others."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from caffepy.data.tables.writer import MARK
from caffepy.errors import ConfigError, DataError
from caffepy.hdf5 import open_hdf5

log = logging.getLogger(__name__)

NAMES = ("train.h5", "val.h5", "test.h5")
_FOLD = re.compile(r"fold(\d+)")


def fold_number(folder: Path) -> int:
    """Of fold1, fold2, ...; 0 for a folder called otherwise."""
    found = _FOLD.fullmatch(folder.name)
    return int(found[1]) if found else 0


def folds_of(folder: str | Path) -> list[Path]:
    """fold1, fold2, ... in a folder, in the order of their numbers."""
    return sorted(filter(fold_number, Path(folder).glob("fold*")), key=fold_number)


def left_over(folder: str | Path, written: Iterable[Path]) -> list[Path]:
    """Tables in the folder and its folds that are not to be written now, and would be taken for the new ones.

    Raises ConfigError for one that no conversion has written.
    """
    places, new = (Path(folder), *folds_of(folder)), set(written)
    found = [place / name for place in places for name in NAMES if (place / name).exists() and place / name not in new]
    for path in found:
        if not _is_ours(path):
            raise ConfigError(
                "this file would be taken for a part of the conversion, and is from elsewhere",
                where=str(path),
                hint="Move it, or give another --output.",
            )
    return found


def remove(paths: Collection[Path]) -> None:
    """Remove tables of an earlier conversion, and folds that are empty then."""
    for path in paths:
        log.warning("%s of an earlier conversion is removed", path)
        path.unlink(missing_ok=True)
    for fold in {path.parent for path in paths if fold_number(path.parent)}:
        with suppress(OSError):  # something of the user's is in it
            fold.rmdir()


def _is_ours(path: Path) -> bool:
    try:
        with open_hdf5(str(path)) as file:
            return file.has_attribute(MARK)
    except DataError:
        return False
