"""Commands that write something, other than training: what faults meet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.campaign.trainings import SOURCES, Training


class Program(Protocol):
    """What can be run in a folder of its own, and again where it has failed."""

    @property
    def name(self) -> str: ...

    @property
    def again(self) -> tuple[str, ...]:
        """The arguments with which it goes on after a failure."""

    def prepare(self) -> None:
        """Put all that it takes into the working folder."""

    def run(self, *arguments: str) -> None:
        """Run it here, in this process."""

    def result(self) -> dict[str, Any]:
        """What it has made, in the working folder."""

    def check(self, expected: dict[str, Any]) -> None:
        """Raises AssertionError if something there is neither whole nor as it was, wherever the program was stopped."""


class Command(NamedTuple):
    """A command that makes files or databases from what lies in the folder; some are there already, as `OLD`."""

    name: str
    arguments: tuple[str, ...]
    made: tuple[str, ...]
    prepare: Callable[[], None]
    again: tuple[str, ...] = ()

    def run(self, *arguments: str) -> None:
        from caffepy.cli import main

        main([*self.arguments, *arguments])

    def result(self) -> dict[str, Any]:
        return {path: content(Path(path)) for path in self.made}

    def check(self, expected: dict[str, Any]) -> None:
        for path, found in self.result().items():
            assert found in (expected[path], None, OLD), f"{path} is neither whole nor as it was"


OLD = b"old"


def content(path: Path) -> Any:
    """What is in a file or a database; None where there is none."""
    from caffepy.data.sources.databases import guess_backend, open_database

    if path.is_dir():
        reader = open_database(path, guess_backend(path))
        return [reader[i] for i in range(len(reader))]
    return path.read_bytes() if path.exists() else None


def _pictures() -> None:
    SOURCES["images"]()


def _database() -> None:
    SOURCES["lmdb"]()
    Path("mean.binaryproto").write_bytes(OLD)


def _net() -> None:
    from tests.support import GOLDEN

    SOURCES["lmdb"]()
    Path("net.prototxt").write_text(
        """layer { name: "data" type: "Data" top: "data" top: "label"
            data_param { source: "db" backend: LMDB batch_size: 3 } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
        layer { name: "out" type: "HDF5Output" bottom: "ip" bottom: "label" hdf5_output_param { file_name: "out.h5" } }
        """
    )
    shutil.copy(GOLDEN / "db" / "features.caffemodel", "w.caffemodel")


def _ratings() -> None:
    Path("ratings.csv").write_text("user,item,rating,timestamp\n1,a,5,10\n1,b,3,20\n2,a,4,30\n2,c,1,40\n3,b,2,50\n")


def _table() -> None:
    Path("rows.csv").write_text("age,town,label\n20,a,0\n30,b,1\n40,a,1\n50,c,0\n")


def _old_net() -> None:
    Path("old.prototxt").write_text('layers { name: "ip" type: INNER_PRODUCT inner_product_param { num_output: 3 } }')
    Path("new.prototxt").write_bytes(OLD)


_IMAGESET = "convert-imageset", "--max-errors", "0", "./", "list.txt"
COMMANDS = {
    each.name: each
    for each in (
        Command("imageset-lmdb", (*_IMAGESET, "made"), ("made",), _pictures),
        Command("imageset-leveldb", (*_IMAGESET, "made", "--backend", "leveldb"), ("made",), _pictures),
        Command("mean", ("compute-image-mean", "db", "mean.binaryproto"), ("mean.binaryproto",), _database),
        Command(
            "features",
            ("extract-features", "w.caffemodel", "net.prototxt", "ip,label", "a,b", "1", "lmdb"),
            ("a", "b", "out.h5"),
            _net,
        ),
        Command(
            "ratings",
            ("convert-ratings", "ratings.csv", "--output", "tables", "--split", "leave-last:1"),
            ("tables/train.h5", "tables/test.h5"),
            _ratings,
        ),
        Command(
            "table",
            ("convert-table", "rows.csv", "--columns", "age:dense,town:category,label:number", "--output", "tables"),
            ("tables/train.h5",),
            _table,
        ),
        Command("upgrade", ("upgrade-net-proto-text", "old.prototxt", "new.prototxt"), ("new.prototxt",), _old_net),
    )
}
_FEW = 3
_FORMATS = {"hdf5": "HDF5", "table": "HDF5"}
_SHORT = [Training(source, _FORMATS.get(source, "BINARYPROTO"), _FEW) for source in SOURCES]
PROGRAMS: dict[str, Program] = {**{each.name: each for each in _SHORT}, **COMMANDS}
