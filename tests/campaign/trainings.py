"""What is trained, killed and resumed: a small net behind every data source, with snapshots in every format.

`python -m tests.campaign.trainings [--resume]` trains from MemoryData, as `caffepy train` does from all others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PREFIX = "out/snap"
_SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "multistep" gamma: 0.5 stepvalue: 9 type: "Adam" momentum: 0.9
max_iter: {iterations} display: 1 snapshot: 1 snapshot_keep: 3 snapshot_prefix: "{prefix}" snapshot_format: {format}
random_seed: 11 average_loss: 4 iter_size: 2 solver_mode: CPU {test}
"""
_PICTURES = """
layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" }
layer { name: "ip" type: "InnerProduct" bottom: "drop" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
_RATINGS = """
layer { name: "u" type: "Embed" bottom: "user" top: "u" param { sparse: true }
  embed_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "i" type: "Embed" bottom: "item" top: "i" param { sparse: true }
  embed_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "both" type: "Concat" bottom: "u" bottom: "i" top: "both" }
layer { name: "ip" type: "InnerProduct" bottom: "both" top: "ip"
  inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
_TEXT = """
layer { name: "e" type: "Embed" bottom: "data" top: "e"
  embed_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "lstm" type: "LSTM" bottom: "e" bottom: "cont" top: "lstm"
  recurrent_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "lstm" top: "ip"
  inner_product_param { num_output: 256 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" softmax_param { axis: 2 } }
"""
_NETS = {"table": _RATINGS, "text": _TEXT}
_COUNT = 10
_TOPS = 'top: "data" top: "label"'


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (_COUNT, 3, 8, 8), np.uint8)


def _lmdb() -> str:
    from caffepy.data.sources.databases import write_lmdb
    from caffepy.data.sources.datum import from_image

    write_lmdb("db", ((b"%08d" % i, from_image(p, i % 5).SerializeToString()) for i, p in enumerate(_pictures())))
    return f"""type: "Data" {_TOPS} data_param {{ source: "db" backend: LMDB batch_size: 3 }}
        transform_param {{ crop_size: 6 mirror: true scale: 0.01 }}"""


def _leveldb() -> str:
    from tests.support import GOLDEN

    return f"""type: "Data" {_TOPS} transform_param {{ crop_size: 6 mirror: true scale: 0.01 }}
        data_param {{ source: "{GOLDEN / "db" / "mnist_leveldb_table"}" backend: LEVELDB batch_size: 3 }}"""


def _hdf5() -> str:
    import h5py

    for name, part in (("a.h5", slice(0, 6)), ("b.h5", slice(6, None))):
        with h5py.File(name, "w") as file:
            file["data"] = _pictures()[part].astype(np.float32) / 256
            file["label"] = np.arange(_COUNT)[part] % 5
    Path("list.txt").write_text("a.h5\nb.h5\n")
    return f'type: "HDF5Data" {_TOPS} hdf5_data_param {{ source: "list.txt" batch_size: 3 shuffle: true }}'


def _images() -> str:
    from caffepy.data.pictures.image import encode

    for i, picture in enumerate(_pictures()):
        Path(f"{i}.png").write_bytes(encode(picture, "png"))
    Path("list.txt").write_text("".join(f"{i}.png {i % 5}\n" for i in range(_COUNT)))
    return f"""type: "ImageData" {_TOPS} transform_param {{ crop_size: 6 mirror: true scale: 0.01 }}
        image_data_param {{ source: "list.txt" batch_size: 3 shuffle: true }}"""


def _dummy() -> str:
    return f"""type: "DummyData" {_TOPS} dummy_data_param {{ shape {{ dim: 3 dim: 7 }} shape {{ dim: 3 }}
        data_filler {{ type: "gaussian" std: 1 }} data_filler {{ type: "constant" value: 2 }} }}"""


def _table() -> str:
    from tests.data.tables import small

    small.write("t.h5")
    return """type: "TableData" top: "user" top: "item" top: "label"
        table_data_param { source: "t.h5" batch_size: 4 shuffle: true negatives: 1 }"""


def _text() -> str:
    Path("t.txt").write_text("It goes on from batch to batch, and so do the states of the layers. " * 2)
    return """type: "TextData" top: "data" top: "label" top: "cont"
        text_data_param { source: "t.txt" level: BYTE batch_size: 3 time_steps: 4 }"""


def _memory() -> str:
    return f"""type: "MemoryData" {_TOPS}
        memory_data_param {{ batch_size: 5 channels: 3 height: 8 width: 8 }}"""


SOURCES: dict[str, Callable[[], str]] = {
    "lmdb": _lmdb,
    "leveldb": _leveldb,
    "hdf5": _hdf5,
    "images": _images,
    "dummy": _dummy,
    "table": _table,
    "text": _text,
    "memory": _memory,
}
"""Each makes its data in the working folder and says what the data layer is."""


class Training(NamedTuple):
    """A solver in a folder of its own, whose snapshots are called `PREFIX`_iter_N."""

    source: str
    format: str = "BINARYPROTO"
    iterations: int = 24
    again: tuple[str, ...] = ("--resume",)

    @property
    def name(self) -> str:
        return f"train-{self.source}-{self.format}"

    def prepare(self) -> None:
        """Put all that it takes into the working folder."""
        data = f'layer {{ name: "data" {SOURCES[self.source]()} }}'
        Path("net.prototxt").write_text(data + _NETS.get(self.source, _PICTURES))
        test = "" if self.source == "memory" else "test_iter: 1 test_interval: 4"
        solver = _SOLVER.format(iterations=self.iterations, prefix=PREFIX, format=self.format, test=test)
        Path("solver.prototxt").write_text(solver)
        Path(PREFIX).parent.mkdir()

    def run(self, *arguments: str) -> None:
        """Train here, in this process."""
        if self.source == "memory":
            train_from_memory("--resume" in arguments)
        else:
            from caffepy.cli import main

            main(["train", "--solver", "solver.prototxt", *arguments])

    def command(self, *arguments: str) -> list[str]:
        """The same, to be run as a program."""
        if self.source == "memory":
            return [sys.executable, "-m", "tests.campaign.trainings", *arguments]
        return [sys.executable, "-m", "caffepy", "train", "--solver", "solver.prototxt", *arguments]

    def result(self) -> dict[str, Any]:
        """All that the run has learned and remembers at its end."""
        from caffepy.solver import resume_file

        suffix = ".h5" if self.format == "HDF5" else ""
        name = f"{PREFIX}_iter_{self.iterations}"
        kept = resume_file.to_json({k: resume_file.read(f"{name}.resume")[k] for k in ("random", "layers")})
        files = [f"{name}.caffemodel{suffix}", f"{name}.solverstate{suffix}"]
        return {"resume": kept, **{Path(file).name: Path(file).read_bytes() for file in files}}

    def check(self, expected: dict[str, Any] | None = None) -> int:
        """The iteration of the newest snapshot, 0 without any. Raises AssertionError if it is not whole."""
        from caffepy.solver import snapshot

        there = snapshot.snapshots(PREFIX)
        assert snapshot.newest(PREFIX) == (there[0] if there else None), f"{there[0]} is not whole"
        return int(there[0].partition("_iter_")[2].partition(".")[0]) if there else 0


TRAININGS = {each.name: each for each in (Training(*pair) for pair in product(SOURCES, ("BINARYPROTO", "HDF5")))}


def train_from_memory(resume: bool) -> None:
    from caffepy.cli import terminal
    from caffepy.pycaffe.solvers import Solver
    from caffepy.solver import snapshot

    terminal.start_logging()
    solver = Solver("solver.prototxt")
    solver.net.set_input_arrays(_pictures().astype(np.float32) / 256, np.arange(_COUNT) % 5)
    solver.solve((resume and snapshot.newest(PREFIX)) or None)


if __name__ == "__main__":
    train_from_memory("--resume" in sys.argv)
