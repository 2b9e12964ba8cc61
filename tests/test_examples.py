"""The scripts of `examples/`: each runs, and shows what it says."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield lambda name, *args: import_module(name).main(*args)
    for name in set(sys.modules) - before:
        if (EXAMPLES / f"{name}.py").exists():
            del sys.modules[name]


def test_classification(run):
    pytest.importorskip("PIL")
    by_hand, by_classifier = run("classification")
    assert by_hand > 0.85 and by_classifier == by_hand


def test_learning_lenet(run):
    losses, accuracies = run("learning_lenet", 50)
    assert len(losses) == 50 and losses[0] > 2 and max(losses[-10:]) < 1.2
    assert len(accuracies) == 3 and accuracies[0] < 0.3 and accuracies[-1] > 0.7


def test_brewing_logreg(run):
    linear, deep = run("brewing_logreg")
    assert linear < 0.7 and deep > 0.93


def test_finetune(run):
    accuracies, moved = run("finetune")
    assert min(accuracies["features learn slowly"], accuracies["features stay"]) > accuracies["from scratch"] + 0.15
    assert moved["features stay"] == 0 < moved["features learn slowly"] < moved["from scratch"]


def test_net_surgery(run):
    worst, found = run("net_surgery")
    assert worst < 1e-5 and found >= 5


def test_feature_extraction(run):
    shares = run("feature_extraction")
    assert shares["fc1"] > shares["pixels"] + 0.02


def test_fit_and_predict(run):
    accuracy, loaded = run("fit_and_predict")
    assert accuracy > 0.9 and loaded == pytest.approx(accuracy)


def test_a_script_runs_from_anywhere(tmp_path):
    script = [sys.executable, "-W", "error", EXAMPLES / "net_surgery.py"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "equals 435 passes" in done.stdout
    assert not list(tmp_path.iterdir())


def test_every_example_is_tested_and_listed():
    listed = (EXAMPLES / "README.md").read_text()
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        if path.stem != "digits":
            assert f"`{path.name}`" in listed and f'run("{path.stem}"' in tested
