"""average_weights: the moving average by its formula, saved beside the weights, and the same after a resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.net import weights
from caffepy.proto import text
from caffepy.proto.blobs import proto_to_array
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import resume_file
from caffepy.solver.solver import Solver
from tests.support import ENGINES

SOLVER = """net_param { layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 dim: 3 } } }
  layer { name: "goal" type: "DummyData" top: "goal"
    dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 3 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "goal" top: "loss" } }
base_lr: 0.1 lr_policy: "fixed" max_iter: 40 snapshot: 10 snapshot_prefix: "s" average_weights: 0.8 """


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solver(fields="", engine="numpy") -> Solver:
    return Solver(text.parse(SOLVER + fields, SolverParameter()), engine=get_engine(engine), file="s.prototxt")


def saved(path: str) -> np.ndarray:
    return proto_to_array(weights.read_weights(path).layer[0].blobs[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_average_by_its_formula(engine):
    built = solver(engine=engine)
    built.solve()
    w, a = 0.0, 0.0
    for t in range(1, 41):
        w += 0.1 * (3 - w) / 2
        d = min(0.8, (1 + t) / (10 + t))
        a = d * a + (1 - d) * w
    np.testing.assert_allclose(saved("s_iter_40.caffemodel"), w, rtol=1e-5)
    np.testing.assert_allclose(saved("s_iter_40_average.caffemodel"), a, rtol=1e-5)


def test_resumes_to_the_bit():
    solver().solve()
    straight = Path("s_iter_40_average.caffemodel").read_bytes()
    for path in Path().glob("s_iter_[34]0*"):
        path.unlink()
    solver().solve("s_iter_20.solverstate")
    assert Path("s_iter_40_average.caffemodel").read_bytes() == straight


def test_old_ones_go_with_their_snapshots():
    solver("snapshot_keep: 1 snapshot_format: HDF5").solve()
    assert sorted(path.name for path in Path().glob("s_iter_*average*")) == ["s_iter_40_average.caffemodel.h5"]


def test_a_share_that_is_none():
    with pytest.raises(ConfigError, match="average_weights must lie between 0 and 1, got 1"):
        Solver(text.parse(SOLVER.replace("weights: 0.8", "weights: 1"), SolverParameter()), file="s")


def test_accumulated_gradients_are_shown(caplog):
    with caplog.at_level("INFO", "caffepy"):
        solver("iter_size: 4").solve()
    assert "Gradients of 4 batches are averaged for each update: iter_size" in caplog.messages


def test_a_disk_without_room_for_the_average_ends_no_training(monkeypatch, caplog):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("caffepy.solver.average.weights.save", full)
    built = solver("snapshot_after_train: false")
    built.solve()
    assert built.iter == 40 and "no snapshot was written, training goes on" in caplog.text
    assert not list(Path().glob("*.solverstate"))  # where the state is, all are


def test_the_averages_of_another_run_are_set_apart_with_it():
    solver().solve()
    before = Path("s_iter_10_average.caffemodel").read_bytes()
    other = solver()
    other.param.base_lr = 0.2
    other.solve()
    assert Path("s_run_1/s_iter_10_average.caffemodel").read_bytes() == before
    assert Path("s_iter_10_average.caffemodel").read_bytes() != before


@pytest.mark.parametrize("trained", [0, 15])
def test_what_is_restored_is_what_is_saved_next(trained):
    built = solver()
    built.solve()
    average = Path("s_iter_10_average.caffemodel").read_bytes()
    other = solver()
    other.param.snapshot = 0
    other.step(trained)
    other.restore("s_iter_10.solverstate")
    other.snapshot("again")
    assert Path("again_average.caffemodel").read_bytes() == average
    found, expected = (resume_file.read(f"{name}.resume")["listeners"] for name in ("again", "s_iter_10"))
    np.testing.assert_equal(found["average_weights"], expected["average_weights"])


def test_tables_of_rows_have_no_average():
    net = """layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 2 } } }
      layer { name: "e" type: "Embed" bottom: "i" top: "e" param { sparse: true }
        embed_param { num_output: 2 input_dim: 5 bias_term: false } }
      layer { name: "l" type: "Reduction" bottom: "e" top: "l" loss_weight: 1 }"""
    fields = f'net_param {{ {net} }} base_lr: 0.1 lr_policy: "fixed" max_iter: 1 average_weights: 0.8'
    with pytest.raises(ConfigError, match="is updated by rows"):
        Solver(text.parse(fields, SolverParameter()), file="s.prototxt").solve()
