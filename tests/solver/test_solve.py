"""`solve`: from a snapshot or anew to max_iter, then the snapshot, the display and the test that are due."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import Action, Listener, Solver

NET = """
net_param {
  layer { name: "in" type: "DummyData" top: "x" top: "t"
    dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 2 } } }
  layer { name: "w" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
}
base_lr: 0.01 lr_policy: "fixed" snapshot_prefix: "snap" random_seed: 3
"""


class Events(Listener):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def snapshot(self, solver) -> None:
        self.seen.append(("snapshot", solver.iter))

    def test(self, solver) -> None:
        self.seen.append(("test", solver.iter))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solver(fields: str) -> tuple[Solver, Events]:
    made, events = Solver(text.parse(NET + fields, SolverParameter()), file="s.prototxt"), Events()
    made.listeners.append(events)
    return made, events


def test_without_an_end_it_says_so():
    with pytest.raises(ConfigError) as caught:
        solver("")[0].solve()
    assert str(caught.value) == "s.prototxt: max_iter is not set\n  Say how many iterations to train."


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ("max_iter: 4 snapshot: 2", [2, 4]),  # the last is due anyhow, and is not written twice
        ("max_iter: 5 snapshot: 2", [2, 4, 5]),
        ("max_iter: 3 snapshot: 2", [2, 3]),
        ("max_iter: 5 snapshot: 2 snapshot_after_train: false", [2, 4]),
        ("max_iter: 5", [5]),
        ("max_iter: 5 snapshot_after_train: false", []),
    ],
)
def test_the_last_snapshot_is_that_of_the_end(fields, written):
    made, events = solver(fields)
    made.solve()
    assert events.seen == [("snapshot", iteration) for iteration in written]


def test_one_that_failed_at_the_end_is_tried_again(monkeypatch):
    made, events = solver("max_iter: 4 snapshot: 2")
    monkeypatch.setattr(made, "snapshot_if_possible", lambda: setattr(made, "_unsaved", True))
    made.solve()
    assert events.seen == [("snapshot", 4)]


def test_it_goes_on_from_a_snapshot():
    solver("max_iter: 3")[0].solve()
    made, events = solver("max_iter: 5")
    steps = []
    made.step = steps.append
    made.solve("snap_iter_3.solverstate")
    assert steps == [2] and made.iter == 3 and events.seen == [("snapshot", 3)]


def test_the_display_and_the_test_that_are_due_at_the_end(caplog):
    made, events = solver(
        "max_iter: 4 display: 4 test_iter: 1 test_interval: 2 average_loss: 3 test_initialization: false"
    )
    with caplog.at_level(logging.INFO, "caffepy"):
        made.solve()
    assert [event for event in events.seen if event[0] == "test"] == [("test", 2), ("test", 4)]
    losses = [m for r in caplog.records if (m := r.getMessage()).startswith("Iteration 4, loss = ")]
    assert losses == [f"Iteration 4, loss = {made.smoothed_loss.value:.6g}"]
    assert made.smoothed_loss.state()["count"] == 5 and len(made.smoothed_loss.losses) == 3


def test_the_display_at_the_end_draws_from_the_solvers_own_numbers():
    """Whatever others have drawn, it is the same."""
    losses = []
    for seed in (1, 2):
        made, _ = solver("max_iter: 1 display: 1")
        rng.seed(seed)
        made.solve()
        losses.append(made.smoothed_loss.value)
    assert losses[0] == losses[1]


def test_a_test_that_is_stopped_has_no_scores():
    class Stop(Listener):
        def batch(self, solver) -> None:
            if solver.testing:
                solver.request(Action.STOP)

    made, _ = solver("max_iter: 1 test_iter: 5 test_interval: 1")
    whole = made.test()
    made.listeners.append(Stop())
    assert set(whole) == {"loss"} and made.test() == {}


def test_a_run_that_is_stopped_early_looks_at_nothing_more(caplog):
    made, events = solver("max_iter: 9 test_iter: 1 test_interval: 3 test_initialization: false")
    made.request(Action.STOP)
    with caplog.at_level(logging.INFO, "caffepy"):
        made.solve()
    assert made.iter == 0 and events.seen == [("snapshot", 0)] and Path("snap_iter_0.solverstate").exists()
    assert caplog.records[-1].getMessage() == "Optimization stopped early."
