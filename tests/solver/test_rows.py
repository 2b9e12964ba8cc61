"""Updates by rows: what a batch touches is updated as a dense solver does, and nothing else is read."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.engine import get_engine
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.proto.text import parse
from caffepy.pycaffe.solvers import Solver
from tests.support import ENGINES, assert_close

NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 4 } shape { dim: 4 dim: 3 } } }
layer { name: "e" type: "Embed" bottom: "x" top: "y" SPARSE
        embed_param { input_dim: 9 num_output: 3 bias_term: false weight_filler { type: "uniform" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
RULES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-6",
    "Adam": "momentum: 0.9",
}


def build(sparse: bool, engine: str, more: str) -> Solver:
    net = NET.replace("SPARSE", "param { sparse: true }" if sparse else "")
    text = f'net_param {{ {net} }} base_lr: 0.1 lr_policy: "fixed" random_seed: 5 snapshot_prefix: "s" {more}'
    solver = Solver(parse(text, SolverParameter()), engine=get_engine(engine))
    solver.net.blobs["t"].data[...] = np.random.default_rng(1).normal(size=(4, 3))
    return solver


def train(solver: Solver, batches) -> None:
    for batch in batches:
        solver.net.blobs["x"].data[...] = batch
        solver.step(1)


def table(solver: Solver) -> np.ndarray:
    return np.array(solver.net.params["e"][0].data)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", RULES)
def test_rows_touched_in_every_step_are_as_dense(rule, engine):
    more = f'type: "{rule}" {RULES[rule]} weight_decay: 0.01 clip_gradients: 0.5 iter_size: 2'
    sparse, dense = build(True, engine, more), build(False, engine, more)
    before = table(sparse)
    for solver in (sparse, dense):
        train(solver, [[0, 7, 3, 0]] * 4)
    touched = [0, 3, 7]
    assert_close(table(sparse)[touched], table(dense)[touched], tolerance=1e-5)
    untouched = [i for i in range(9) if i not in touched]
    np.testing.assert_array_equal(table(sparse)[untouched], before[untouched])


def test_momentum_and_decay_wait_until_a_row_is_touched_again():
    solver = build(True, "numpy", "momentum: 0.5 weight_decay: 0.1")
    train(solver, [[1, 1, 1, 1], [2, 2, 2, 2]])
    kept = table(solver)[1].copy()
    train(solver, [[2, 2, 2, 2]])
    np.testing.assert_array_equal(table(solver)[1], kept)
    other = build(True, "numpy", "momentum: 0.5 weight_decay: 0.1")
    train(other, [[1, 1, 1, 1], [1, 1, 1, 1]])
    train(solver, [[1, 1, 1, 1]])
    assert_close(table(solver)[1], table(other)[1], tolerance=1e-6)  # as if nothing had been in between


def test_the_same_norm_is_clipped(caplog):
    logs = []
    for sparse in (True, False):
        caplog.clear()
        with caplog.at_level("INFO"):
            train(build(sparse, "numpy", "clip_gradients: 0.01"), [[1, 2, 2, 5]])
        logs.append([r.getMessage() for r in caplog.records if "clipping" in r.getMessage()])
    assert logs[0] == logs[1] != []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_resuming_is_exact(rule, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = f'type: "{rule}" {RULES[rule]} snapshot_format: {form} snapshot_diff: true'
    batches = np.random.default_rng(3).integers(0, 9, (8, 4))
    whole, first, second = (build(True, "numpy", more) for _ in range(3))
    train(whole, batches)
    train(first, batches[:4])
    rng.seed(0)
    second.restore(first.snapshot())
    train(second, batches[4:])
    np.testing.assert_array_equal(table(second), table(whole))
    for ours, theirs in zip(second.history, whole.history):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_a_pass_without_rows_changes_nothing():
    solver = build(True, "numpy", "momentum: 0.9 clip_gradients: 1")
    before = table(solver)
    solver.net.clear_param_diffs()
    solver.apply_update()
    np.testing.assert_array_equal(table(solver), before)
