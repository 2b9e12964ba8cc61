"""The synthetic tasks of the MMoE paper (Ma et al. 2018): shared bottom, one gate and many gates, tasks alike or not.

    python models/multitask/synthetic/run.py            # table and, with matplotlib, picture: some minutes

Two regressions on x (100,), normal: w1 = c u1, w2 = c (p u1 + sqrt(1 - p^2) u2), u1 and u2 orthonormal;
y = w'x + sum of m sines of alpha_i w'x + beta_i + noise of 0.01. p is the cosine of the tasks. Samples are fresh in
every batch, so the loss of the last batches, each before it is learned from, is that of samples never seen.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

os.environ.setdefault("CAFFEPY_THREADS", "1")

import caffepy
from caffepy.proto.caffe_pb2 import SolverParameter

HERE = Path(__file__).parent
MODELS = ("shared_bottom", "omoe", "mmoe")
NAMES = {"shared_bottom": "shared bottom", "omoe": "OMoE", "mmoe": "MMoE"}
DIMENSIONS, SINES, SCALE, NOISE = 100, 5, 2.0, 0.01
LAST = 200
"""Batches that the final loss is the mean of."""


class Tasks:
    """Samples of two tasks whose weights have the cosine p."""

    def __init__(self, p: float, seed: int):
        self.random = np.random.default_rng(seed)
        u, _ = np.linalg.qr(self.random.standard_normal((DIMENSIONS, 2)))
        self.w = SCALE * np.stack([u[:, 0], p * u[:, 0] + np.sqrt(1 - p * p) * u[:, 1]], axis=1)
        self.alpha, self.beta = self.random.standard_normal((2, SINES))

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """x (n, 100), y (n, 2)"""
        x = self.random.standard_normal((n, DIMENSIONS))
        projected = x @ self.w
        sines = np.sin(self.alpha * projected[..., None] + self.beta).sum(axis=-1)
        return x, projected + sines + NOISE * self.random.standard_normal((n, 2))


class Fresh(caffepy.Listener):
    """Fills the inputs with new samples before each batch."""

    def __init__(self, tasks: Tasks):
        self.tasks = tasks

    def batch(self, solver) -> None:
        blobs = solver.net.engine_blobs
        x, y = self.tasks.draw(blobs["x"].shape[0])
        for name, values in (("x", x), ("y1", y[:, :1]), ("y2", y[:, 1:])):
            blobs[name].fill(values)


def train(model: str, p: float, seed: int, iterations: int) -> list[float]:
    """The mean squared error of both tasks together, a mean for each `LAST` iterations."""
    param = SolverParameter(
        net=str(HERE / f"{model}.prototxt"), type="Adam", momentum=0.9, base_lr=0.003, lr_policy="fixed",
        random_seed=seed, average_loss=LAST,
    )  # fmt: skip
    solver = caffepy.Solver(param)
    solver.listeners.append(Fresh(Tasks(p, seed)))
    losses = []
    for _ in range(iterations // LAST):
        solver.step(LAST)
        losses.append(2 * solver.smoothed_loss.value)  # EuclideanLoss is half of it
    return losses


def study(cosines: list[float], seeds: int, iterations: int, workers: int) -> dict[str, list[list[float]]]:
    """For each "model p" the losses of every seed."""
    runs = list(product(MODELS, cosines, range(1, seeds + 1)))
    found: dict[str, list[list[float]]] = {}
    with ProcessPoolExecutor(workers) as pool:
        curves = pool.map(train, *zip(*runs), [iterations] * len(runs))
        for (model, p, _), curve in zip(runs, curves):
            found.setdefault(f"{model} {p:g}", []).append(curve)
    return found


def table(found: dict[str, list[list[float]]], cosines: list[float]) -> str:
    """Markdown: the final loss of each model, mean and standard error over seeds."""
    lines = ["| task cosine | " + " | ".join(NAMES.values()) + " |", "| --- |" + " --- |" * len(MODELS)]
    for p in cosines:
        cells = []
        for model in MODELS:
            final = np.array([curve[-1] for curve in found[f"{model} {p:g}"]])
            cells.append(f"{final.mean():.4f} ± {final.std(ddof=1) / np.sqrt(len(final)):.4f}")
        lines.append(f"| {p:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(found: dict[str, list[list[float]]], cosines: list[float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(cosines), figsize=(5 * len(cosines), 3.5), sharey=True)
    for axis, p in zip(np.atleast_1d(axes), cosines):
        for model in MODELS:
            curves = np.array(found[f"{model} {p:g}"])
            axis.semilogy(LAST * np.arange(1, curves.shape[1] + 1), curves.mean(axis=0), label=NAMES[model])
        axis.set(title=f"task cosine {p:g}", xlabel="iteration", ylabel="squared error of both tasks")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cosines", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--output", default=str(HERE), help="folder for results.json and synthetic.svg")
    options = parser.parse_args()
    found = study(options.cosines, options.seeds, options.iterations, options.workers)
    Path(options.output, "results.json").write_text(json.dumps(found))
    print(table(found, options.cosines))
    try:
        picture(found, options.cosines, Path(options.output, "synthetic.svg"))
    except ModuleNotFoundError:
        print("no picture: it needs matplotlib")


if __name__ == "__main__":
    main()
