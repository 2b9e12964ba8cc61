"""Boltzmann machines of ratings with one case per user and one per item: RMSE on the test after each epoch.

    python benchmarks/rbm.py DIR [--seeds 3] [--epochs 80] [--plot docs/rbm-orientation.svg]

DIR is what `caffepy convert-ratings` writes. All else is as RatingRBMParameter has it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from caffepy import passes, rng
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetParameter

SIZES = (30, 200)
NET = """
layer {{ name: "d" type: "TableData" top: "user" top: "item" top: "rating"
         table_data_param {{ source: "{table}" batch_size: {batch} }} }}
layer {{ name: "m" type: "RatingRBM" bottom: "user" bottom: "item" top: "y" ratings_param {{ source: "{train}" }}
         rating_rbm_param {{ cases: {cases} num_hidden: {hidden} }} }}
layer {{ name: "rmse" type: "RMSE" bottom: "y" bottom: "rating" top: "rmse" }}
"""


def errors(folder: str, cases: str, hidden: int, seed: int, epochs: int) -> list[float]:
    """The test's RMSE after each epoch."""
    rng.seed(seed)
    train, test = Path(folder, "train.h5"), Path(folder, "test.h5")
    nets = []
    for table, phase, batch in ((train, TRAIN, 1), (test, TEST, 0)):
        definition = NET.format(table=table, train=train, cases=cases, hidden=hidden, batch=batch)
        nets.append(Net(text.parse(definition, NetParameter()), phase))
    nets[1].share_trained_layers_with(nets[0])
    found = []
    for _ in range(epochs):
        passes.of(nets[0]).forward()
        passes.of(nets[1]).forward()
        found.append(float(nets[1].engine_blobs["rmse"].host()))
    return found


def plot(found: dict[tuple[str, int], np.ndarray], path: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5))
    for (cases, hidden), curves in found.items():
        style = {"linestyle": "--" if cases == "USER" else "-", "linewidth": 1 if hidden == SIZES[0] else 2}
        axes.plot(np.arange(1, curves.shape[1] + 1), curves[0], label=f"{cases.lower()}s, {hidden} hidden", **style)
    axes.set(xlabel="epoch", ylabel="RMSE", ylim=(0.91, 1.03))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--cases", default="USER,ITEM")
    parser.add_argument("--plot", default="")
    args = parser.parse_args()
    found = {}
    for cases in args.cases.split(","):
        for hidden in SIZES:
            curves = [errors(args.folder, cases, hidden, seed + 1, args.epochs) for seed in range(args.seeds)]
            found[cases, hidden] = np.array(curves)
            last = " ".join(f"{curve[-1]:.4f}" for curve in curves)
            print(f"{cases} {hidden}: least {found[cases, hidden].min():.4f}, at the end {last}", flush=True)
    if args.plot:
        plot(found, args.plot)


if __name__ == "__main__":
    sys.exit(main())
