"""A snapshot or a stop in a test, or behind it: the resumed run begins with that test and ends in the same bits."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffepy import rng
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import Action, Listener, resume, resume_file
from tests.solver.test_resume import bits, folder  # noqa: F401

NET = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" backend: LMDB batch_size: 3 shuffle: true }
  transform_param { crop_size: 6 mirror: true scale: 0.01 } }
layer { name: "rows" type: "HDF5Data" top: "rows" hdf5_data_param { source: "rows.txt" batch_size: 3 shuffle: true } }
layer { name: "noise" type: "DummyData" top: "noise"
  dummy_data_param { shape { dim: 3 dim: 4 } data_filler { type: "uniform" min: -0.1 max: 0.1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "drop" }
layer { name: "flat" type: "Flatten" bottom: "drop" top: "flat" }
layer { name: "all" type: "Concat" bottom: "flat" bottom: "rows" bottom: "noise" top: "all" }
layer { name: "fc" type: "InnerProduct" bottom: "all" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 9 snapshot_prefix: "snap" random_seed: 11
test_iter: 3 test_interval: 4 display: 3 average_loss: 4 snapshot_best: "loss"
early_stop { metric: "loss" patience: 100 min_delta: 1 } solver_mode: CPU
"""


@pytest.fixture
def files(folder):  # noqa: F811
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    Path("rows.txt").write_text("rows.h5\n")
    with h5py.File("rows.h5", "w") as file:
        file["rows"] = np.random.default_rng(1).normal(size=(10, 2)).astype(np.float32)


class Seen(Listener):
    """The scores of each test."""

    def __init__(self):
        self.tests = {}

    def test(self, solver):
        self.tests[solver.iter] = dict(solver.scores)


class InBatch(Listener):
    """Asks for something in the second batch of the test at iteration 4."""

    def __init__(self, ask):
        self.ask, self.batches = ask, 0

    def batch(self, solver):
        if solver.testing and solver.iter == 4:
            self.batches += 1
            if self.batches == 2:
                self.ask(solver)


class Behind(Listener):
    """Does something when the test at iteration 4 is told."""

    def __init__(self, do):
        self.do = do

    def test(self, solver):
        if solver.iter == 4:
            self.do(solver)


class AtBest(Listener):
    """Stops when the best weights of a test behind the first are written."""

    def snapshot(self, solver):
        if solver.iter and solver.written.endswith("_best.solverstate"):
            solver.stop()


PLACES = {
    "stop in a batch": (InBatch(Solver.stop), "snap_iter_4.solverstate"),
    "snapshot in a batch": (InBatch(lambda solver: solver.request(Action.SNAPSHOT)), "snap_iter_4.solverstate"),
    "snapshot behind": (Behind(Solver.snapshot), "snap_iter_4.solverstate"),
    "snapshot asked for behind": (Behind(lambda s: s.request(Action.SNAPSHOT)), "snap_iter_4.solverstate"),
    "stop behind": (Behind(Solver.stop), "snap_iter_4.solverstate"),
    "best": (AtBest(), "snap_best.solverstate"),
}


def trained(*listeners: Listener, snapshot: str = "") -> tuple[Solver, Seen]:
    rng.seed(99)  # a new process would not have the old one's generator
    solver, seen = Solver("solver.prototxt"), Seen()
    solver.listeners += [seen, *listeners]
    solver.solve(snapshot or None)
    return solver, seen


def moving(solver: Solver) -> str:
    return resume_file.to_json(resume.moving(solver))


@pytest.mark.parametrize("place", PLACES)
def test_a_run_goes_on_as_if_nothing_had_happened(place, files):
    listener, snapshot = PLACES[place]
    whole, expected = trained()
    trained(listener)
    assert os.path.exists(snapshot)
    again, seen = trained(snapshot=snapshot)
    first = min(seen.tests)
    assert first > 0
    assert seen.tests == {n: scores for n, scores in expected.tests.items() if n >= first}
    assert bits(again) == bits(whole)
    assert moving(again) == moving(whole)


def test_a_run_that_goes_on_behind_a_snapshot_is_not_disturbed(files):
    whole, expected = trained()
    asked, seen = trained(InBatch(lambda solver: solver.request(Action.SNAPSHOT)), Behind(Solver.snapshot))
    assert bits(asked) == bits(whole) and seen.tests == expected.tests


def test_a_snapshot_behind_an_iteration_holds_what_is_there_then(files):
    solver = Solver("solver.prototxt")
    solver.step(5)
    assert solver.before_test is None
    solver.snapshot()
    held = resume_file.read("snap_iter_5.resume")
    now = resume.moving(solver)
    assert resume_file.to_json({name: held[name] for name in now}) == resume_file.to_json(now)
