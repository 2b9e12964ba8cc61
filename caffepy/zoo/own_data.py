"""One's own data for a net of the zoo: which sources lie in a folder, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffepy.data.sources import annotated
from caffepy.data.sources import datum as datums
from caffepy.data.sources.databases import backends_in, open_database
from caffepy.data.sources.pairs import read_pairs
from caffepy.data.tables.table import open_table
from caffepy.errors import DataError
from caffepy.files import read_text

DATABASE, LIST, TABLE = "database", "list", "table"
KINDS = {
    "Data": DATABASE, "AnnotatedData": DATABASE, "ImageData": LIST, "ImageSegData": LIST, "DenseImageData": LIST,
    "HDF5Data": LIST, "TableData": TABLE,
}  # fmt: skip
"""What `source` names, by type of layer."""

_WORDS = {"train": ("train",), "test": ("val", "test")}
_EXPECTED = {
    DATABASE: "a database, or databases train and val, as the convert commands write them",
    LIST: "lists train.txt and val.txt",
    TABLE: "tables train.h5 and test.h5, as caffepy convert-ratings writes them",
}


@dataclass(frozen=True)
class OwnData:
    """Sources to train and to test on, their numbers of records, and what else is known of them."""

    kind: str
    train: str
    test: str
    records: int
    test_records: int
    shape: tuple[int, ...] = ()
    """Of the first picture of a database, (C, H, W)."""
    mean: str = ""
    classes: int = 0
    """Lines of labels.txt."""


def look(folder: str, kind: str) -> OwnData:
    """What lies in `folder`, or under names that begin with it. Raises DataError if nothing of that kind does.

    One source alone is that of the training and that of the tests.
    """
    if not Path(folder).exists() and not _beside(Path(folder)):
        raise DataError("there is no such file or folder", where=folder, hint=f"--data takes {_EXPECTED[kind]}.")
    train = _find(Path(folder), kind, "train")
    test = _find(Path(folder), kind, "test")
    if not train:
        raise DataError("no data to train on lies there", where=folder, hint=f"--data takes {_EXPECTED[kind]}.")
    test = test or train
    shape = _shape(train) if kind == DATABASE else ()
    mean, labels = Path(folder, "mean.binaryproto"), Path(folder, "labels.txt")
    lines = read_text(labels).split("\n") if labels.is_file() else []
    return OwnData(
        kind, str(train), str(test), _records(train, kind), _records(test, kind), shape,
        str(mean) if mean.is_file() else "", sum(bool(line.strip()) for line in lines),
    )  # fmt: skip


def _find(path: Path, kind: str, phase: str) -> Path | None:
    """The source of a phase: `path` itself, a file or folder in it, or one beside it whose name begins as its does."""
    if _is(path, kind):
        return path
    inside = [(child.name, child) for child in sorted(path.iterdir())] if path.is_dir() else []
    named = [(child.name[len(path.name) + 1 :], child) for child in _beside(path)]
    found = [
        child
        for word in _WORDS[phase]
        for name, child in (*inside, *named)
        if name.lower().startswith(word) and _is(child, kind)
    ]
    return found[0] if found else None


def _beside(path: Path) -> list[Path]:
    if not path.parent.is_dir():
        return []
    return sorted(child for child in path.parent.iterdir() if child.name.startswith((f"{path.name}_", f"{path.name}-")))


def _is(path: Path, kind: str) -> bool:
    if kind == DATABASE:
        return bool(backends_in(path))
    return path.is_file() and path.suffix in ((".h5",) if kind == TABLE else (".txt",))


def _records(path: Path, kind: str) -> int:
    if kind == DATABASE:
        return len(open_database(path, backends_in(path)[0]))
    return len(read_pairs(path, both=False)) if kind == LIST else len(open_table(str(path)))


def _shape(path: Path) -> tuple[int, ...]:
    reader = open_database(path, backends_in(path)[0])
    if not len(reader):
        raise DataError("the database is empty", where=str(path))
    key, value = reader[0]
    try:
        datum = datums.parse(value, key, str(path))
    except DataError:
        datum = annotated.parse(value, key, str(path)).datum
    if datum.encoded:
        return datums.picture(datum, key, str(path)).shape
    return datum.channels, datum.height, datum.width
