"""What a step costs where gradients are rows: 1,024 indices into a small and into a large table.

    python benchmarks/rows.py [--engine numpy] [--rows 100000 10000000] [--width 16] [--steps 30]

Prints milliseconds of a step (forward, backward, update), and the memory held beside that of tables and histories.
Contenders alternate in one process; the best of their steps counts. With --dense the same without `sparse: true`, on
the small table alone.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from caffepy.engine import get_engine
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.proto.text import parse
from caffepy.pycaffe.solvers import Solver

BATCH = 1024
SOLVER = """
type: "Adam" base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" random_seed: 1
net_param {{
  layer {{ name: "in" type: "Input" top: "x" top: "t"
           input_param {{ shape {{ dim: {batch} }} shape {{ dim: {batch} dim: {width} }} }} }}
  layer {{ name: "e" type: "Embed" bottom: "x" top: "y" {param}
           embed_param {{ input_dim: {rows} num_output: {width} bias_term: false }} }}
  layer {{ name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }}
}}"""


class Contender:
    """A solver whose batches touch rows at random."""

    def __init__(self, rows: int, width: int, engine: str, param: str = "param { sparse: true }"):
        text = SOLVER.format(batch=BATCH, width=width, rows=rows, param=param)
        self.solver = Solver(parse(text, SolverParameter()), engine=get_engine(engine))
        self.rows, self.best, self._random = rows, float("inf"), np.random.default_rng(0)

    def step(self) -> None:
        self.solver.net.blobs["x"].data[...] = self._random.integers(0, self.rows, BATCH)
        start = time.perf_counter()
        self.solver.step(1)
        self.best = min(self.best, 1000 * (time.perf_counter() - start))


def held() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="numpy")
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 10_000_000])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--dense", action="store_true")
    args = parser.parse_args()
    if args.dense:
        contenders = [
            Contender(args.rows[0], args.width, args.engine, param) for param in ("param { sparse: true }", "")
        ]
    else:
        contenders = [Contender(rows, args.width, args.engine) for rows in args.rows]
    for _ in range(args.steps):
        for contender in contenders:
            contender.step()
    names = ["rows", "dense"] if args.dense else [f"{rows:,}" for rows in args.rows]
    for name, contender in zip(names, contenders):
        print(f"{name:>12}: {contender.best:8.3f} ms a step")
    first, second = contenders
    print(f"ratio {second.best / first.best:.2f}")
    if not args.dense:
        tables = 3 * 4 * args.width * sum(args.rows) / 2**20
        print(f"tables and histories: {tables:.0f} MB; the process has held {held():.0f} MB")


if __name__ == "__main__":
    main()
