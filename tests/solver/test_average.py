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
