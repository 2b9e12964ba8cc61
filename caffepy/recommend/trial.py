"""One model of the zoo, trained and tested in a process of its own: `python -m caffepy.recommend.trial`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from caffepy import limits, permissions, plugins
from caffepy.errors import CaffeError, ConfigError, DataError, did_you_mean
from caffepy.proto import settings

Figures = dict[str, float]
"""rmse and mae (where the model predicts ratings), ndcg@10, train and predict in seconds, memory in bytes."""


def check_models(zoo: str, models: Iterable[str]) -> None:
    """Raises ConfigError for a model that is not in the zoo."""
    known = sorted(path.parent.name for path in Path(zoo).glob("*/solver.prototxt"))
    for model in models:
        if model not in known:
            hint = did_you_mean(model, known) or (f"Known: {', '.join(known)}." if known else "Set --zoo.")
            raise ConfigError(f'there is no model "{model}" in {zoo}', hint=hint)


def run(zoo: str, model: str, folder: str, options: Sequence[str] = ()) -> Figures:
    """Train and test in another process, so that its memory is that of this model alone."""
    solver = Path(zoo, model, "solver.prototxt")
    command = [sys.executable, "-m", "caffepy.recommend.trial", str(solver.absolute()), *options]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ended.returncode:
        raise DataError(f'the model "{model}" failed: {ended.stderr.strip()}', where=folder)
    return json.loads(ended.stdout.splitlines()[-1])


def measure(solver_file: str) -> Figures:
    """Train what the solver says in the working folder, then ask for the test's ratings and all users' rankings."""
    from caffepy.net.net import Net
    from caffepy.proto import text
    from caffepy.proto.caffe_pb2 import TEST
    from caffepy.recommend import evaluation
    from caffepy.recommend.scorer import Scorer
    from caffepy.solver import Solver

    param = text.read_solver(solver_file)
    param.snapshot_after_train, param.snapshot, param.test_interval = False, 0, 0
    del param.test_iter[:]
    solver = Solver(param, file=solver_file)
    begin = time.perf_counter()
    solver.solve()
    trained = time.perf_counter()
    net = Net(str(Path(solver_file).with_name("deploy.prototxt")), TEST)
    net.share_trained_layers_with(solver.net)
    scorer = Scorer(net)
    errors = evaluation.rating_errors(scorer, "test.h5") if scorer.output == "prediction" else {}
    predicted = time.perf_counter()
    ranked = evaluation.ranking_metrics(scorer, "test.h5", 10, 0)
    return {
        **errors,
        "ndcg@10": ranked["ndcg@10"],
        "train": trained - begin,
        "predict": predicted - trained,
        "memory": float(limits.peak_memory()),
    }


def main() -> None:
    """Print the figures, or the error of a model that cannot be trained."""
    parser = argparse.ArgumentParser()
    parser.add_argument("solver")
    parser.add_argument("--max-memory")
    parser.add_argument("--no-python-layers", action="store_true")
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--import", dest="modules", action="append", default=[])
    given = parser.parse_args()
    try:
        limits.set_max_memory(given.max_memory)
        permissions.allow_python_layers(False if given.no_python_layers else None)
        sys.path += given.path
        settings.use(given.settings)
        for module in given.modules:
            plugins.load(module)
        print(json.dumps(measure(given.solver)))
    except CaffeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
