"""The scripts of `examples/`: each runs, and shows what it says."""

from __future__ import annotations

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
    assert run("learning_lenet") > 0.8


def test_brewing_logreg(run):
    linear, deep = run("brewing_logreg")
    assert linear < 0.7 and deep > 0.93


def test_finetune(run):
    found = run("finetune")
    assert found["fine-tuned"] > found["from scratch"] + 0.15


def test_net_surgery(run):
    assert run("net_surgery") < 1e-5


def test_feature_extraction(run):
    shares = run("feature_extraction")
    assert shares["fc1"] > shares["pixels"] + 0.02


def test_fit_and_predict(run):
    accuracy, loaded = run("fit_and_predict")
    assert accuracy > 0.9 and loaded == pytest.approx(accuracy)


def test_every_example_is_tested_and_listed():
    listed = (EXAMPLES / "README.md").read_text()
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        if path.stem != "digits":
            assert f"`{path.name}`" in listed and f'run("{path.stem}")' in tested
