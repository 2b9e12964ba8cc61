"""Recommenders: seconds of the processor and RMSE beside Surprise's, in alternation; and ratings by the million.

    python benchmarks/recommend.py DIR --peer SURPRISE_VENV/bin/python   # DIR holds train.h5 and test.h5
    python benchmarks/recommend.py --generated 1000000

Surprise lives in an environment of its own (scikit-surprise 1.1.5, h5py, pandas), which `--peer` names.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ZOO = Path(__file__).parents[1] / "models" / "recommend"
PEERS = {
    "baseline": "BaselineOnly(verbose=False)",
    "item_knn": "KNNBaseline(sim_options=dict(name='pearson_baseline', user_based=False), verbose=False)",
    "user_knn": "KNNBaseline(sim_options=dict(name='pearson_baseline', user_based=True), verbose=False)",
    "svd": "SVD()",
}
PEER = """
import json, sys, time, h5py, pandas
from surprise import *
from surprise import accuracy
def load(path):
    with h5py.File(path) as f:
        return pandas.DataFrame({k: f[k][:] for k in ("user", "item", "rating")})
train, test = load(sys.argv[1] + "/train.h5").sample(frac=1, random_state=0), load(sys.argv[1] + "/test.h5")
scale = float(train.rating.min()), float(train.rating.max())
data = Dataset.load_from_df(train, Reader(rating_scale=scale)).build_full_trainset()
model = eval(sys.argv[2])
a = time.process_time(); model.fit(data)
b = time.process_time(); found = model.test(list(test.itertuples(index=False, name=None)))
c = time.process_time()
print(json.dumps(dict(rmse=accuracy.rmse(found, verbose=False), fit=b - a, test=c - b)))
"""


def ours(model: str, folder: str) -> dict[str, float]:
    """In this process: train what the zoo's solver says, predict the test."""
    from caffepy.net.net import Net
    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import TEST
    from caffepy.recommend import evaluation
    from caffepy.recommend.scorer import Scorer
    from caffepy.solver import Solver

    os.chdir(folder)
    param = text.read_solver(ZOO / model / "solver.prototxt")
    param.snapshot_after_train, param.test_interval = False, 0
    del param.test_iter[:]
    solver = Solver(param)
    begin = time.process_time()
    solver.solve()
    trained = time.process_time()
    net = Net(str(ZOO / model / "deploy.prototxt"), TEST)
    net.share_trained_layers_with(solver.net)
    scorer = Scorer(net)
    asked = time.process_time()
    errors = evaluation.rating_errors(scorer, "test.h5")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rmse": errors["rmse"], "fit": trained - begin, "test": time.process_time() - asked, "MB": memory}


def generate(folder: str, count: int) -> None:
    """So many ratings: a hundredth as many users, a quarter as many items as these."""
    from caffepy.data.tables.table import Column
    from caffepy.data.tables.writer import write_table

    random = np.random.default_rng(0)
    users, items = max(10, count // 100), max(10, count // 400)
    user, item = random.integers(users, size=count), (random.random(count) ** 2 * items).astype(np.int64)
    rating = np.clip(np.round(3.5 + random.standard_normal(count)), 1, 5).astype(np.float32)
    test = np.arange(count) % 10 == 0
    for name, rows in (("train.h5", ~test), ("test.h5", test)):
        columns = {
            "user": Column(user[rows].astype(np.int32), users, "user"),
            "item": Column(item[rows].astype(np.int32), items, "item"),
            "rating": Column(rating[rows]),
        }
        write_table(Path(folder, name), columns)


def run(command: list[str]) -> dict[str, float]:
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="")
    parser.add_argument("--models", default=",".join(PEERS))
    parser.add_argument("--peer", default="")
    parser.add_argument("--generated", type=int, default=0)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(ours(args.one, args.folder)))
        return
    with tempfile.TemporaryDirectory() as place:
        if args.generated:
            generate(place, args.generated)
        folder = place if args.generated else str(Path(args.folder).absolute())
        for model in args.models.split(","):
            print("caffepy ", model, run([sys.executable, __file__, folder, "--one", model]), flush=True)
            if args.peer and model in PEERS:
                print("surprise", model, run([args.peer, "-c", PEER, folder, PEERS[model]]), flush=True)


if __name__ == "__main__":
    main()
