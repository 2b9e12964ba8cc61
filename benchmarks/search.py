"""What a search costs, on the repository's digits with a small LeNet: python benchmarks/search.py

`tpe`: 30 trials of TPE with Hyperband against a grid of 200 points, each training of at most 300 iterations; they may
be interrupted, and go on from what is kept in --folder. Their rate falls to 0: with a fixed one the last test is noise.
Processor time counts all processes of a search. `jobs`: trials a minute with two jobs against one, in turn.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

DIGITS = Path(__file__).parents[1] / "models/lenet/digits"

NET = """name: "small LeNet"
layer {{ name: "mnist" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  transform_param {{ scale: 0.00390625 }} data_param {{ source: "{0}/train_lmdb" batch_size: 64 backend: LMDB }} }}
layer {{ name: "mnist" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  transform_param {{ scale: 0.00390625 }} data_param {{ source: "{0}/test_lmdb" batch_size: 100 backend: LMDB }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 8 kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param {{ num_output: 16 kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
  inner_product_param {{ num_output: 64 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include {{ phase: TEST }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "{0}/net.prototxt" base_lr: 0.01 lr_policy: "poly" power: 1 momentum: 0.9 max_iter: {1}
test_iter: 20 test_interval: {2} test_initialization: false random_seed: 1 solver_mode: CPU
"""
SPACE = """solver: "{0}/solver.prototxt" metric: "accuracy" seed: {1} baseline: false
param {{ path: "base_lr" log {{ min: 1e-4 max: 1 steps: 10 }} }}
param {{ path: "momentum" range {{ min: 0 max: 0.9 steps: 4 }} }}
param {{ path: "net.layer.ip1.inner_product_param.num_output"
  choice: "16" choice: "32" choice: "64" choice: "128" choice: "256" }}
"""
GRID = "sampler: GRID\n"
TPE = "trials: 30 pruner { type: HYPERBAND }\n"


def prepare(folder: Path, iterations: int, interval: int, seed: int) -> None:
    """The digits as LMDB, and the definitions."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        if not (folder / f"{part}_lmdb").exists():
            files = [str(DIGITS / f"{part}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
            caffepy("convert-mnist", *files, str(folder / f"{part}_lmdb"))
    (folder / "net.prototxt").write_text(NET.format(folder))
    (folder / "solver.prototxt").write_text(SOLVER.format(folder, iterations, interval))
    space = SPACE.format(folder, seed)
    (folder / "grid.prototxt").write_text(space + GRID)
    (folder / "tpe.prototxt").write_text(space + TPE)


def caffepy(*args: str) -> str:
    done = subprocess.run([sys.executable, "-m", "caffepy", *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def search(folder: Path, name: str, *options: str) -> dict[str, float]:
    """Run a search, or go on with it: its best value, and the wall and processor seconds of all its calls."""
    note = folder / f"{name}.json"
    spent = json.loads(note.read_text()) if note.exists() else {"wall": 0.0, "processor": 0.0}
    began, used = time.time(), used_by_children()
    try:
        caffepy("search", str(folder / f"{name}.prototxt"), "--folder", str(folder / name), *options)
    finally:
        now = {"wall": time.time() - began, "processor": used_by_children() - used}
        spent = {kind: spent[kind] + now[kind] for kind in spent}
        note.write_text(json.dumps(spent))
    with open(folder / name / "search.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["accuracy"]) for row in rows if row["state"] == "COMPLETE"]
    return {**spent, "best": max(values), "trials": len(rows), "complete": len(values)}


def used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(folder: Path) -> None:
    """TPE with Hyperband against the grid."""
    tpe, grid = search(folder, "tpe"), search(folder, "grid")
    for name, found in (("TPE with Hyperband", tpe), ("grid", grid)):
        print(
            f"{name}: {found['trials']} trials, {found['complete']} to the end, best {found['best']:.2%}, "
            f"{found['wall']:.0f} s, {found['processor']:.0f} s of processors"
        )
    print(f"below the grid's best: {grid['best'] - tpe['best']:.2%}")
    for kind in ("wall", "processor"):
        print(f"share of the grid's time ({kind}): {tpe[kind] / grid[kind]:.3f}")


def jobs(folder: Path, rounds: int, trials: int) -> None:
    """Trials a minute with two jobs and with one, in turn; the best rounds count."""
    best: dict[int, float] = {}
    text = (folder / "tpe.prototxt").read_text().replace(TPE, f"sampler: RANDOM trials: {trials}\n")
    (folder / "jobs.prototxt").write_text(text)
    for _ in range(rounds):
        for count in (1, 2):
            shutil.rmtree(folder / "jobs", ignore_errors=True)
            began = time.time()
            caffepy("search", str(folder / "jobs.prototxt"), "--folder", str(folder / "jobs"), "--jobs", str(count))
            minutes = (time.time() - began) / 60
            best[count] = max(best.get(count, 0), trials / minutes)
            print(f"{count} job(s): {trials / minutes:.1f} trials a minute")
    print(f"two jobs against one, best rounds: {best[2] / best[1]:.2f} times the trials a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["tpe", "jobs"], nargs="?", default="tpe")
    parser.add_argument("--folder", type=Path, default=Path("bench-search"))
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--interval", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8, help="jobs: of each search.")
    args = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    prepare(args.folder, args.iterations, args.interval, args.seed)
    compare(args.folder) if args.part == "tpe" else jobs(args.folder, args.rounds, args.trials)


if __name__ == "__main__":
    main()
