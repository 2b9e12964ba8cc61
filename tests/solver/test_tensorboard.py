"""Curves for TensorBoard, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffepy.cli import main
from caffepy.proto.text import read_solver
from caffepy.solver import Solver

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 8 dim: 4 } shape { dim: 8 dim: 1 } data_filler { type: "gaussian" } } }
layer { name: "shared" type: "InnerProduct" bottom: "x" top: "shared"
  inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "one" type: "EuclideanLoss" bottom: "shared" bottom: "y" top: "one" }
layer { name: "two" type: "EuclideanLoss" bottom: "shared" bottom: "y" top: "two" loss_weight: 2 }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "step" stepsize: 2 gamma: 0.5 max_iter: 6 display: 2
test_iter: 1 test_interval: 3 random_seed: 1 snapshot: 2 snapshot_prefix: "s" tensorboard_dir: "curves" """


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("s.prototxt").write_text(SOLVER)


def curve(tag: str, folder: str = "curves") -> list[tuple[int, float]]:
    events = reader.EventAccumulator(folder)
    events.Reload()
    return [(scalar.step, pytest.approx(scalar.value)) for scalar in events.Scalars(tag)]


def test_curves_are_what_the_solver_displays_and_tests():
    solver = Solver(read_solver("s.prototxt"))
    solver.solve()
    assert [step for step, _ in curve("train/loss")] == [0, 2, 4]
    assert curve("train/learning_rate") == [(2, 0.01), (4, 0.005)]
    assert [step for step, _ in curve("test/one")] == [0, 3, 6]
    assert curve("test/one")[-1] == (6, solver.scores["one"])


def test_of_several_tasks_weights_norms_and_cosines():
    Path("s.prototxt").write_text(SOLVER + "multi_task { method: MGDA }")
    solver = Solver(read_solver("s.prototxt"))
    solver.step(1)
    solver.announce("stop")
    norms = np.sqrt(np.diag(solver.multi_task.seen.gram))
    assert curve("tasks/gradient_norms/two") == [(1, norms[1])]
    assert curve("tasks/weights/one") == [(1, solver.multi_task.weights[0])]
    assert curve("tasks/cosines/one_two") == [(1, 1.0)]


def test_conflicts_writes_those_of_all_tasks_together(capsys):
    main("conflicts --solver s.prototxt --iterations 3 --tensorboard seen".split())  # noqa: SIM905
    assert [step for step, _ in curve("tasks/cosines/one_two", "seen")] == [1, 2, 3]
    assert not Path("curves").exists()


def test_a_resumed_run_goes_on_in_its_curves(capsys):
    main(["train", "--solver", "s.prototxt", "--tensorboard", "other"])
    main(["train", "--solver", "s.prototxt", "--snapshot", "s_iter_2.solverstate", "--tensorboard", "other"])
    assert [step for step, _ in curve("train/loss", "other")] == [0, 2, 4]
    assert not Path("curves").exists()
