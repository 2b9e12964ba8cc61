"""Updates by rows: what a batch touches is updated as a dense solver does, and nothing else is read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from caffepy import rng
from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.proto.text import parse
from caffepy.pycaffe.solvers import Solver
from caffepy.solver.rules import find_rule
from caffepy.solver.update import Update
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


def test_adamw_decays_the_rows_that_are_touched():
    more = 'type: "AdamW" momentum: 0.9 weight_decay: 0.5'
    solver, without = build(True, "numpy", more), build(True, "numpy", more.replace("0.5", "0"))
    before = table(solver)
    for one in (solver, without):
        train(one, [[1, 2, 2, 1]])
    rate = 0.1
    assert_close(table(without)[[1, 2]] - table(solver)[[1, 2]], rate * 0.5 * before[[1, 2]], tolerance=1e-5)
    others = [0, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(table(solver)[others], before[others])


def test_lambs_step_is_as_long_as_the_rows_that_are_touched():
    solver = build(True, "numpy", 'type: "LAMB" momentum: 0.9 weight_decay: 0')
    before = table(solver)
    train(solver, [[1, 2, 2, 1]])
    step = before - table(solver)
    assert not step[[0, 3, 4, 5, 6, 7, 8]].any()
    lengths = [np.linalg.norm(values[[1, 2]]) for values in (step, before)]
    assert lengths[0] == pytest.approx(0.1 * lengths[1], rel=1e-5)


def test_lamb_does_not_see_all_of_a_spread_table():
    parameter = SimpleNamespace(blob=Blob((4, 3)))
    parameter.blob.name, parameter.blob.spread = "e[0]", object()
    net = SimpleNamespace(learnable_params=[parameter], engine=get_engine("numpy"))
    definition = SolverParameter(type="LAMB")
    with pytest.raises(ConfigError) as caught:
        Update(definition, find_rule(definition), net)
    assert str(caught.value) == (
        "LAMB compares a parameter with its step as a whole, but the rows of e[0] are spread over processes\n"
        "  Choose another type, or sparse: true instead of spread: true."
    )


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
