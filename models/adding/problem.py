"""python models/adding/problem.py FOLDER: the adding problem, as HDF5 files train.h5 and test.h5 and lists of them.

A sequence of 100 steps has a number from 0 to 1 at every step, and two steps, one in each half, are marked with 1; what
is asked for is the sum of the two numbers (Hochreiter and Schmidhuber 1997). Always answering 1 has a squared error of
1/6.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

STEPS = 100


def problems(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (count, STEPS, 2) and sums (count, 1)."""
    random = np.random.default_rng(seed)
    numbers = random.uniform(size=(count, STEPS))
    marks = np.zeros((count, STEPS))
    rows = np.arange(count)
    for half in (0, STEPS // 2):
        marks[rows, half + random.integers(STEPS // 2, size=count)] = 1
    return np.stack([numbers, marks], axis=2).astype(np.float32), (numbers * marks).sum(1, keepdims=True)


def write(folder: Path, part: str, count: int, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{part}.h5", "w") as file:
        file["sequence"], file["sum"] = problems(count, seed)
    (folder / f"{part}.txt").write_text(f"{folder / f'{part}.h5'}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), "train", 50000, 1)
    write(Path(sys.argv[1]), "test", 2000, 2)
