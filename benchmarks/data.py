"""What data costs: the wait of LeNet's training, pictures a second out of a database of JPEGs, memory of the pipeline.

    python benchmarks/data.py wait [--iterations 500]
    python benchmarks/data.py pictures [--threads 1,2] [--raw]
    python benchmarks/data.py memory [--gigabytes 1]

`pictures` makes 256x256 pictures and reads crops of 227, mirrored at random, without a net. If OpenCV is installed, a
stand-in for Caffe's data thread runs besides: one thread that decodes by OpenCV, crops, mirrors and subtracts the mean.
The rounds alternate between the contenders, so that a noisy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import caffepy
from caffepy.data.pictures.image import encode
from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.data.sources.lmdb import LmdbReader
from caffepy.proto import caffe_pb2, text
from caffepy.proto.caffe_pb2 import Datum
from caffepy.pycaffe.net import Net

ROOT = Path(__file__).parent.parent
BATCH = 64
MEAN = 104.0, 117.0, 123.0
NET = """layer {{ name: "data" type: "Data" top: "data" top: "label"
  data_param {{ source: "{source}" backend: LMDB batch_size: {batch} threads: {threads} {more} }}
  transform_param {{ crop_size: 227 mirror: true mean_value: 104 mean_value: 117 mean_value: 123 }} }}"""


def wait(iterations: int) -> None:
    """Share of the training steps that waits for data."""
    os.chdir(ROOT)
    solver = text.read("models/lenet/lenet_solver.prototxt", caffe_pb2.SolverParameter())
    solver.ClearField("snapshot")
    solver.test_initialization, solver.snapshot_after_train, solver.max_iter = False, False, 10**9
    solver.ClearField("test_interval")
    solver.ClearField("test_iter")
    solver = caffepy.get_solver(solver)
    data = next(layer for layer in solver.net.layers if hasattr(layer, "data_wait"))
    solver.step(20)
    for _ in range(3):
        waited, began = data.data_wait, time.perf_counter()
        solver.step(iterations)
        seconds = time.perf_counter() - began
        share = (data.data_wait - waited) / seconds
        print(f"{1000 * seconds / iterations:.2f} ms a step, {share:.2%} of it waiting for data")


def picture(random: np.random.Generator) -> np.ndarray:
    """(3, 256, 256), smooth with a little noise: as a JPEG about 25 kB."""
    coarse = random.integers(0, 256, (3, 18, 18)).astype(float)
    for axis in (1, 2):
        at = np.linspace(0, 16.999, 256)
        low, part = at.astype(int), at % 1
        part = part[:, None] if axis == 1 else part
        coarse = np.take(coarse, low, axis) * (1 - part) + np.take(coarse, low + 1, axis) * part
    return (coarse + random.integers(-12, 13, coarse.shape)).clip(0, 255).astype(np.uint8)


def make(path: str, count: int, raw: bool) -> None:
    random = np.random.default_rng(0)
    images = [picture(random) for _ in range(64)]
    datums = [from_image(i, 0) if raw else Datum(data=encode(i, "jpg"), encoded=True, label=0) for i in images]
    values = [datum.SerializeToString() for datum in datums]
    print(f"{count} pictures, {sum(map(len, values)) / 64e3:.0f} kB each")
    write_lmdb(path, ((b"%08d" % i, values[i % 64]) for i in range(count)))


def layer(source: str, threads: int, more: str = "") -> Net:
    definition = NET.format(source=source, batch=BATCH, threads=threads, more=more)
    return Net(text.parse(definition, caffe_pb2.NetParameter()), caffe_pb2.TRAIN)


def opencv(source: str, cv2, batches: int) -> float:
    """Pictures a second of one thread that does what Caffe's does."""
    cv2.setNumThreads(1)
    reader, random = LmdbReader(source), np.random.default_rng(0)
    mean = np.array(MEAN, np.float32)[:, None, None]
    out = np.empty((BATCH, 3, 227, 227), np.float32)
    began = time.perf_counter()
    for i in range(batches * BATCH):
        datum = Datum.FromString(reader[i % len(reader)][1])
        image = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
        top, left = random.integers(0, 30, 2)
        crop = image[top : top + 227, left : left + 227]
        if random.integers(2):
            crop = cv2.flip(crop, 1)
        np.subtract(crop.transpose(2, 0, 1), mean, out=out[i % BATCH])
    return batches * BATCH / (time.perf_counter() - began)


def pictures(threads: list[int], raw: bool, rounds: int = 5, batches: int = 12) -> None:
    """Pictures a second: median and range of the rounds."""
    try:
        import cv2
    except ImportError:
        cv2 = None
    with tempfile.TemporaryDirectory() as folder:
        make(source := f"{folder}/db", 8 * BATCH, raw)
        nets = {n: layer(source, n) for n in threads}
        speeds: dict[str, list[float]] = {}
        for _ in range(rounds):
            for n, net in nets.items():
                data = net.layers[0].prefetcher
                data.next()
                began = time.perf_counter()
                for _ in range(batches):
                    data.next()
                speed = batches * BATCH / (time.perf_counter() - began)
                data.close()
                speeds.setdefault(f"caffepy, threads: {n}", []).append(speed)
            if cv2 and not raw:
                speeds.setdefault("OpenCV, one thread", []).append(opencv(source, cv2, batches))
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.0f} pictures/s ({min(values):.0f} to {max(values):.0f})")


def memory(gigabytes: float) -> None:
    """The process's own memory (not the database's pages, which the system lends) while it reads a whole database."""
    with tempfile.TemporaryDirectory() as folder:
        make(source := f"{folder}/db", int(gigabytes * 1e9 / 3 / 256**2), raw=True)
        net = layer(source, 1)
        data = net.layers[0]
        batch = BATCH * (3 * 227**2 + 1) * 4 / 1e6
        print(f"database {os.path.getsize(f'{source}/data.mdb') / 1e6:.0f} MB, a batch {batch:.0f} MB")
        before = own_memory()
        for i in range(len(data.reader) // BATCH):
            net.forward()
            if i < 10:
                time.sleep(0.2)  # a net that is slower than the data, so that the queue is full
            if i in (0, 10) or i == len(data.reader) // BATCH - 1:
                print(f"after {i + 1} batches: {own_memory() - before:.0f} MB more than before the first")


def own_memory() -> float:
    """Anonymous resident memory, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this measurement needs Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["wait", "pictures", "memory"])
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--raw", action="store_true", help="raw records instead of JPEG")
    parser.add_argument("--gigabytes", type=float, default=1)
    args = parser.parse_args()
    if args.what == "wait":
        wait(args.iterations)
    elif args.what == "pictures":
        pictures([int(n) for n in args.threads.split(",")], args.raw)
    else:
        memory(args.gigabytes)


if __name__ == "__main__":
    main()
