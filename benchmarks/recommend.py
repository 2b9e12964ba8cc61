"""Recommenders beside scikit-surprise's and cornac's, in alternation; on several folds; on ratings by the million.

    python benchmarks/recommend.py peers DIR --surprise PYTHON --cornac PYTHON [--models svd] [--factors 30,100]
    python benchmarks/recommend.py folds DIR [--surprise PYTHON]   # means over DIR/fold1, fold2, ...
    python benchmarks/recommend.py generated 1000000 10000000      # seconds and memory of training

DIR is what `caffepy convert-ratings` writes. The peers live in environments of their own (scikit-surprise 1.1.5 or
cornac 3.0.1, with h5py and pandas), whose interpreters are named. Seconds are those of the processor; `peers` takes of
each the least of its rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ZOO = Path(__file__).parents[1] / "models" / "recommend"
PEARSON = "sim_options=dict(name='pearson_baseline', user_based={}), verbose=False"
SURPRISE = {
    "baseline": "BaselineOnly(verbose=False)",
    "item_knn": f"KNNBaseline({PEARSON.format(False)})",
    "user_knn": f"KNNBaseline({PEARSON.format(True)})",
    "svd": "SVD(FACTORS)",
    "svdpp": "SVDpp()",
    "nmf": "NMF()",
    "slope_one": "SlopeOne()",
}
CORNAC = {
    "baseline": "BaselineOnly(verbose=False)",
    "item_knn": "ItemKNN(k=40, similarity='pearson', mean_centered=True, verbose=False, num_threads=1)",
    "user_knn": "UserKNN(k=40, similarity='pearson', mean_centered=True, verbose=False, num_threads=1)",
    "svd": "MF(k=100, max_iter=20, use_bias=True, early_stop=False, num_threads=1, verbose=False, seed=0)",
    "nmf": "NMF(k=15, max_iter=50, use_bias=False, num_threads=1, verbose=False, seed=0)",
}
COMMON = """
import json, os, sys, time, h5py, numpy, pandas
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ[name] = "1"
def load(path):
    with h5py.File(path) as f:
        return pandas.DataFrame({k: f[k][:] for k in ("user", "item", "rating")})
train, test = load(sys.argv[1] + "/train.h5").sample(frac=1, random_state=0), load(sys.argv[1] + "/test.h5")
low, high = float(train.rating.min()), float(train.rating.max())
def told(found, a, b, c):
    rmse = float(numpy.sqrt(numpy.mean((numpy.clip(found, low, high) - test.rating) ** 2)))
    print(json.dumps(dict(rmse=rmse, fit=b - a, test=c - b)))
"""
RUN = {
    "surprise": """
from surprise import *
data = Dataset.load_from_df(train, Reader(rating_scale=(low, high))).build_full_trainset()
model = eval(sys.argv[2])
a = time.process_time(); model.fit(data)
b = time.process_time(); found = model.test(list(test.itertuples(index=False, name=None)))
told([one.est for one in found], a, b, time.process_time())
""",
    "cornac": """
from cornac.data import Dataset
from cornac.models import *
data = Dataset.from_uir(list(train.itertuples(index=False, name=None)))
model = eval(sys.argv[2])
users, items, mean = data.uid_map, data.iid_map, float(train.rating.mean())
a = time.process_time(); model.fit(data)
b = time.process_time()
found = [model.rate(users[u], items[i]) if u in users and i in items else mean for u, i in zip(test.user, test.item)]
told(found, a, b, time.process_time())
""",
}
Figures = dict[str, float]


def ours(model: str, folder: str, factors: int) -> Figures:
    """In this process: train what the zoo's solver says, predict the test."""
    from caffepy.limits import peak_memory
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
    nets = [text.read_net(path).param for path in (param.net, ZOO / model / "deploy.prototxt")]
    for layer in (layer for net in nets for layer in net.layer if factors and layer.HasField("factors_param")):
        layer.factors_param.num_factors = factors
    param.ClearField("net")
    param.net_param.CopyFrom(nets[0])
    solver = Solver(param)
    begin = time.process_time()
    solver.solve()
    trained, memory = time.process_time(), peak_memory() / 2**20
    net = Net(nets[1], TEST)
    net.share_trained_layers_with(solver.net)
    scorer = Scorer(net)
    asked = time.process_time()
    rmse = evaluation.rating_errors(scorer, "test.h5")["rmse"]
    return {"rmse": rmse, "fit": trained - begin, "test": time.process_time() - asked, "MB": memory}


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


# Each in a process of its own


def run(who: str, python: str, model: str, folder: str, factors: int = 0) -> Figures:
    """Figures of a model of ours, or of a peer whose interpreter is `python`."""
    if who == "caffepy":
        command = [sys.executable, __file__, "one", folder, "--models", model, "--factors", str(factors)]
    else:
        kinds = SURPRISE if who == "surprise" else CORNAC
        definition = kinds[model].replace("FACTORS", f"n_factors={factors or 100}")
        if factors:
            definition = definition.replace("k=100", f"k={factors}")
        command = [python, "-c", COMMON + RUN[who], folder, definition]
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CAFFEPY_THREADS"), "1")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=single)
    if ended.returncode:
        sys.exit(f"{who} {model}: {ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def who_has(model: str, args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Who takes part, and with which interpreter."""
    yield "caffepy", sys.executable
    if args.surprise and model in SURPRISE:
        yield "surprise", args.surprise
    if args.cornac and model in CORNAC:
        yield "cornac", args.cornac


def shown(figures: Figures) -> str:
    return "  ".join(f"{key} {value:.4f}" if key == "rmse" else f"{key} {value:.3g}" for key, value in figures.items())


def peers(args: argparse.Namespace) -> None:
    for model in args.models:
        for factors in args.factors if model == "svd" else [0]:
            found: dict[str, list[Figures]] = {}
            for _ in range(args.rounds):
                for who, python in who_has(model, args):
                    found.setdefault(who, []).append(run(who, python, model, args.folder, factors))
            for who, rounds in found.items():
                best = {key: min(one[key] for one in rounds) for key in rounds[0]}
                print(f"{model}{factors or ''}  {who:8}  {shown(best)}", flush=True)


def over_folds(args: argparse.Namespace) -> None:
    folders = sorted(str(path.parent) for path in Path(args.folder).glob("fold*/train.h5"))
    for model in args.models:
        for who, python in who_has(model, args):
            rounds = [run(who, python, model, folder) for folder in folders]
            means = {key: float(np.mean([one[key] for one in rounds])) for key in rounds[0]}
            each = " ".join(f"{one['rmse']:.4f}" for one in rounds)
            print(f"{model}  {who:8}  {shown(means)}  ({each})", flush=True)


def generated(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        for count in args.counts:
            generate(place, count)
            for model in args.models:
                rounds = [run("caffepy", "", model, place) for _ in range(args.rounds)]
                best = {key: min(one[key] for one in rounds) for key in rounds[0]}
                million = best["fit"] / count * 1e6
                print(f"{model}  {count} ratings  {shown(best)}  fit per million {million:.3g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, models, rounds in (("peers", "baseline,item_knn,svd", 3), ("folds", ",".join(SURPRISE), 1),
                                 ("generated", "svd", 2), ("one", "", 1)):  # fmt: skip
        command = commands.add_parser(name)
        if name == "generated":
            command.add_argument("counts", nargs="+", type=int)
        else:
            command.add_argument("folder", type=os.path.abspath)
        command.add_argument("--models", type=lambda text: text.split(","), default=models.split(","))
        command.add_argument("--factors", type=lambda text: [int(n) for n in text.split(",")], default=[0])
        command.add_argument("--rounds", type=int, default=rounds)
        command.add_argument("--surprise", default="", metavar="PYTHON")
        command.add_argument("--cornac", default="", metavar="PYTHON")
    args = parser.parse_args()
    if args.command == "one":
        print(json.dumps(ours(args.models[0], args.folder, args.factors[0])))
    else:
        {"peers": peers, "folds": over_folds, "generated": generated}[args.command](args)


if __name__ == "__main__":
    main()
