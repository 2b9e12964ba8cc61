"""What is found in solvers."""

from __future__ import annotations

import pytest

from tests.show.lint.conftest import FC, INPUT, LOSS

NET = INPUT + FC + LOSS
GOOD = 'base_lr: 0.1\nlr_policy: "step"\nstepsize: 10\ngamma: 0.5\nmax_iter: 100\ntest_iter: 1\ntest_interval: 20\n'


def test_a_right_solver_has_no_findings(found):
    assert found(NET, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("step\"", "stop\"", 'solver.prototxt:3:1: error: unknown lr_policy "stop" [solver-cannot-start]'),
        ("base_lr: 0.1\n", "", "solver.prototxt: error: base_lr is not set [solver-cannot-start]"),
        ("stepsize: 10", "iter_size: 0",
         "solver.prototxt:4:1: error: iter_size must be at least 1, got 0 [solver-cannot-start]"),
        ("max_iter: 100\n", "", "solver.prototxt: error: max_iter is not set [max-iter-is-not-set]"),
        ("stepsize: 10", "stepsize: 100",
         "solver.prototxt:4:1: warning: the learning rate never decays: stepsize 100 is not reached in 100 iterations "
         "[learning-rate-never-decays]"),
        ("gamma: 0.5", "gamma: 1",
         "solver.prototxt:4:1: warning: the learning rate never decays: gamma is 1 [learning-rate-never-decays]"),
        ("step\"", "fixed\"",
         "solver.prototxt:3:1: note: the learning rate never decays: lr_policy fixed keeps it at 0.1 "
         "[learning-rate-never-decays]"),
        ("step\"\nstepsize: 10", "multistep\"\nstepvalue: 100",
         "solver.prototxt:4:1: warning: the learning rate never decays: no stepvalue is reached in 100 iterations "
         "[learning-rate-never-decays]"),
        ("step\"", "poly\"",
         "solver.prototxt:3:1: warning: the learning rate never decays: power is 0 [learning-rate-never-decays]"),
        ("0.1", "0", "solver.prototxt:2:1: warning: base_lr is 0: no parameter is ever updated "
         "[learning-rate-is-zero]"),
        ("interval: 20", "interval: 200",
         "solver.prototxt:8:1: warning: the test runs once, before training: test_interval 200 is beyond max_iter 100 "
         "[test-never-runs]"),
        ("interval: 20", "interval: 200\ntest_initialization: false",
         "solver.prototxt:8:1: warning: the test never runs: test_interval 200 is beyond max_iter 100 "
         "[test-never-runs]"),
        ("test_iter: 1\n", "", "solver.prototxt:7:1: warning: the test never runs: test_interval is set, test_iter is "
         "not [test-never-runs]"),
        ("test_iter: 1", "test_iter: 0",
         "solver.prototxt:7:1: warning: the test never runs: test_iter is 0 [test-never-runs]"),
        ("gamma: 0.5", 'gamma: 0.5\nsnapshot_prefix: "nowhere/x"',
         'solver.prototxt:6:1: error: snapshots cannot be written to "nowhere/x": No such file or directory '
         "[snapshots-cannot-be-written]"),
        ("gamma: 0.5", 'gamma: 0.5\nweights: "w.caffemodel"',
         'solver.prototxt:6:1: absent: "w.caffemodel" does not exist [weights-do-not-exist]'),
    ],
)  # fmt: skip
def test_rule(found, old, new, expected):
    assert GOOD.replace(old, new) != GOOD
    lines = found(NET, GOOD.replace(old, new))
    assert expected in lines
    if "solver-cannot-start" not in expected:
        assert len(lines) == 1


def test_layers_for_a_test_that_nobody_runs(found):
    accuracy = 'layer { name: "a" type: "Accuracy" bottom: "fc" bottom: "label" top: "a" include { phase: TEST } }\n'
    solver = GOOD.replace("test_iter: 1\ntest_interval: 20\n", "")
    assert found(NET + accuracy, solver) == [
        "solver.prototxt:1:1: warning: the test never runs: the net has layers for TEST, the solver has no test_iter "
        "[test-never-runs]"
    ]
    assert found(NET, solver) == []


def test_a_net_without_loss(found):
    assert "net-has-no-loss" in found(INPUT + FC, GOOD)[0]
    assert found(INPUT + FC, GOOD.replace("0.1", "0")) == []  # nothing is to be learned


def test_nets_of_a_solver_are_looked_at_in_its_states(found):
    dead = 'layer { name: "r" type: "ReLU" bottom: "fc" top: "r" include { stage: "s" } }\n'
    assert found(NET + dead, GOOD) == []
    assert found(NET + dead, GOOD + 'train_state { stage: "s" }\n') == [
        'net.prototxt:4:1: warning: layer "r": nobody reads its top "r" [blob-is-dead]'
    ]
    broken = 'layer { name: "r" type: "ReLU" bottom: "no" top: "r" include { phase: TEST } }\n'
    assert found(NET + broken, GOOD) == ['net.prototxt:4:1: error: layer "r": unknown bottom "no" [cannot-be-built]']


def test_a_net_that_is_not_there(found, tmp_path):
    assert found(NET, GOOD.replace("base_lr", 'train_net: "x"\nbase_lr'))[0].startswith(
        "solver.prototxt: error: net an"
    )
    (tmp_path / "solver.prototxt").write_text('base_lr: 1\nnet: "none.prototxt"\n')
    from caffepy.show.lint import check

    (review,) = check(["solver.prototxt"])
    finding = next(f for f in review.findings if f.rule == "net-cannot-be-read")
    assert finding.where == "solver.prototxt:2:1" and '"none.prototxt": cannot read the file' in finding.message
