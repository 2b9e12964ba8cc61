"""How long AlexNet waits for JPEGs of 256 x 256, cropped to 227 x 227: share of an iteration, of Data and of fit.

python benchmarks/waiting.py [iterations]
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import caffepy
from caffepy import data
from caffepy.arrays.feed import Feed
from caffepy.data.pictures import image
from caffepy.data.sources.databases import create_database
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import Datum, SolverParameter
from caffepy.solver.solver import Solver

MODEL = Path(__file__).parents[1] / "models/bvlc_alexnet/train_val.prototxt"
BATCH, RECORDS = 32, 128
SOLVER = 'train_net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" max_iter: 1000'


def write(folder: Path) -> str:
    """A database of pictures with the detail of photos, roughly, and AlexNet over it."""
    random = np.random.default_rng(0)
    with create_database(folder / "db", "lmdb") as put:
        for i in range(RECORDS):
            picture = image.resize(random.integers(0, 256, (3, 32, 32)).astype(np.uint8), 256, 256)
            datum = Datum(data=image.encode(picture, "jpg"), encoded=True, label=i % 10)
            put(b"%08d" % i, datum.SerializeToString())
    net = re.sub(r'mean_file: "[^"]*"', "mean_value: 104", MODEL.read_text())
    net = re.sub(r'source: "[^"]*"', f'source: "{folder}/db"', net)
    return re.sub(r"batch_size: \d+", f"batch_size: {BATCH}", net)


class Waits(caffepy.Listener):
    """Seconds behind the first iteration, and of them those that passes have waited."""

    def update(self, solver):
        feeds = [observer for observer in solver.net.observers if isinstance(observer, Feed)]
        now = time.perf_counter(), (feeds[0] if feeds else solver.net.layers[0]).data_wait
        self.first = now if solver.iter == 1 else self.first
        self.iterations, self.last = solver.iter - 1, now

    def __str__(self) -> str:
        seconds, waited = (last - first for first, last in zip(self.first, self.last))
        return f"{seconds / self.iterations:.2f} s an iteration of {BATCH}, waiting {100 * waited / seconds:.2f} %"


def crop(record, random):
    top, left = random.integers(0, 29, 2)
    return record[0][:, top : top + 227, left : left + 227].astype("f4") - 104, record[1]


def main(iterations: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        net = write(Path(folder))
        param = text.parse(SOLVER.replace("net.prototxt", f"{folder}/net.prototxt"), SolverParameter())
        Path(folder, "net.prototxt").write_text(net)
        solver, waits = Solver(param), Waits()
        solver.listeners.append(waits)
        solver.step(iterations)
        print("Data layer:", waits)
        layers = net[net.index('name: "conv1"') - 20 :]
        shapes = f"shape {{ dim: {BATCH} dim: 3 dim: 227 dim: 227 }} shape {{ dim: {BATCH} }}"
        source = f'layer {{ name: "in" type: "Input" top: "data" top: "label" input_param {{ {shapes} }} }}\n'
        Path(folder, "arrays.prototxt").write_text(source + layers[layers.index("layer {") :])
        pictures, waits = data.database(f"{folder}/db").map(crop, seed=1), Waits()
        epochs = -(-iterations * BATCH // RECORDS)
        options = {"solver": {"type": "SGD", "base_lr": 0.001}, "callbacks": [waits], "progress": False}
        caffepy.Net(f"{folder}/arrays.prototxt", caffepy.TRAIN).fit(pictures, epochs=epochs, **options)
        print("fit of a dataset:", waits)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
