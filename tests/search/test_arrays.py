"""Search and cross-validation of a net on arrays."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy
from caffepy import layers as L
from caffepy.errors import CaffeError
from tests.search import small

X, Y = small.points()
FIT = {"epochs": 3, "batch_size": 10, "validation_split": 0.2, "shuffle": True}


def net():
    return caffepy.Sequence(
        [
            L.InnerProduct(name="ip1", num_output=4, weight_filler={"type": "xavier"}),
            L.ReLU(),
            L.InnerProduct(name="ip2", num_output=2, weight_filler={"type": "xavier"}),
            L.Accuracy(name="accuracy"),
            L.SoftmaxWithLoss(name="loss"),
        ],
        input=(10, 3),
    )


def facts(study):
    return [(t.number, t.state.name, t.value, t.params) for t in study.trials]


def search(**options):
    pytest.importorskip("optuna")
    given = {
        "metric": "loss", "solver": {"base_lr": 0.05, "momentum": 0.9}, "fit": FIT,
        "param": {"base_lr": [0.01, 0.1], "net.layer.ip1.inner_product_param.num_output": [4, 8]}, **options,
    }  # fmt: skip
    return caffepy.search(net(), X, Y, **given)


def test_a_grid_over_a_sequence():
    study = search(sampler="GRID", baseline=False)
    assert [tuple(t.params.values()) for t in study.trials] == [
        ("0.01", "4"),
        ("0.01", "8"),
        ("0.1", "4"),
        ("0.1", "8"),
    ]
    trained = net().net()
    history = trained.fit(X, Y, solver={"base_lr": 0.01, "momentum": 0.9, "random_seed": 0}, progress=False, **FIT)
    assert len(history["val_loss"]) == 3
    assert study.best_value == min(t.value for t in study.trials)


def test_the_same_seed_gives_the_same_trials():
    options = {"trials": 3, "seed": 3, "param": {"base_lr": {"log": {"min": 1e-3, "max": 1}}}}
    assert facts(search(**options)) == facts(search(**options))


def test_trials_end_early_at_an_epochs_end():
    study = search(
        trials=9, pruner="SUCCESSIVE_HALVING", param={"base_lr": {"log": {"min": 1e-4, "max": 1}}}, metric="accuracy"
    )
    assert {t.state.name for t in study.trials} == {"COMPLETE", "PRUNED"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the overflow that makes it fail
def test_folds_of_a_trial_and_a_failure():
    study = search(folds=3, fit={"epochs": 1}, sampler="GRID", param={"base_lr": [0.1, 1e30]})
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]


def test_a_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"storage": "s.db", "sampler": "GRID", "param": {"base_lr": [0.01, 0.1]}}
    assert facts(search(trials=1, **options)) == facts(search(**options))[:1]


def test_cross_validation():
    groups = np.arange(small.COUNT) // 5
    options = {"folds": 4, "stratify": Y, "group": groups, "solver": {"base_lr": 0.1}, "fit": {"epochs": 2}}
    found = caffepy.cross_validate(net(), X, Y, **options)
    assert len(found.folds) == 4 and set(found.mean) == {"accuracy", "loss"}
    assert found.mean["loss"] == pytest.approx(np.mean([fold["loss"] for fold in found.folds]))
    again = caffepy.cross_validate(
        net(), X, Y, folds=4, stratify=Y, group=groups, solver={"base_lr": 0.1}, fit={"epochs": 2}
    )
    assert again.folds == found.folds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": {"epochs": 1}}, "there is no validation\n"),
        ({"param": {"net.layer.ip9.type": ["a"]}}, 'no layer is called "ip9"\n  Did you mean "ip2"'),
        ({"metric": "los"}, 'no output is called "los"'),
        ({"trails": 3}, "this is no search"),
    ],
)
def test_wrong_calls(options, message):
    pytest.importorskip("optuna")
    with pytest.raises(CaffeError) as caught:
        search(trials=1, **options)
    assert message in str(caught.value)
