"""The names of metrics are the same in the log, the scores, `evaluate`, early_stop, snapshot_best and TensorBoard."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import EarlyStopParameter, SolverParameter
from caffepy.pycaffe.solvers import Solver
from caffepy.solver.watch import BestSnapshot, EarlyStop, lower_is_better, names_output

SOLVER = """
net_param {
  layer { name: "data" type: "MemoryData" top: "x" top: "label" include { phase: TRAIN }
    memory_data_param { batch_size: 5 channels: 3 height: 1 width: 1 } }
  layer { name: "in" type: "Input" top: "x" top: "label" include { phase: TEST }
    input_param { shape { dim: 5 dim: 3 } shape { dim: 5 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3
    weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
  layer { name: "pr" type: "PrecisionRecall" bottom: "ip" bottom: "label" top: "pr" include { phase: TEST } }
  layer { name: "map" type: "AveragePrecision" bottom: "ip" bottom: "label" top: "map" include { phase: TEST } }
  layer { name: "words" type: "Perplexity" bottom: "ip" bottom: "label" top: "perplexity" include { phase: TEST } }
}
base_lr: 0.1 lr_policy: "fixed" max_iter: 2 test_iter: 2 test_interval: 1 snapshot_prefix: "out" snapshot: 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solver(fields: str = "") -> Solver:
    built = Solver(text.parse(SOLVER + fields, SolverParameter()), file="solver.prototxt")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(10, 3, 1, 1)).astype("f4"), random.integers(0, 3, 10).astype("f4")
    built.net.set_input_arrays(x, y)
    test = built.test_nets[0]
    test.blobs["x"].data[...], test.blobs["label"].data[...] = x[:5, :, 0, 0], y[:5]
    return built


def test_one_name_everywhere(caplog):
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    built = solver('snapshot_best: "pr/f1" early_stop { metric: "pr/recall" } tensorboard_dir: "curves"')
    with caplog.at_level("INFO", "caffepy"):
        built.solve()
    names = ["loss", "map", "perplexity", "pr/precision", "pr/recall", "pr/f1"]
    assert sorted(built.scores) == sorted(names)
    lines = [line for line in caplog.messages if line.startswith("    Test net output #")]
    assert [line.split()[4] for line in lines[:6]] == names and f"= {built.scores['pr/f1']:.6g}" in lines[-1]
    watches = {type(listener): listener for listener in built.listeners}
    assert watches[BestSnapshot].best >= built.scores["pr/f1"]
    assert watches[EarlyStop].best is not None
    events = tensorboard.EventAccumulator("curves").Reload()
    assert {f"test/{name}" for name in names} <= set(events.Tags()["scalars"])


def test_evaluate_has_the_same_names():
    built = solver()
    x, y = (built.test_nets[0].blobs[name].data.copy() for name in ("x", "label"))
    expected = built.test()
    assert built.test_nets[0].evaluate(x, y, batch_size=2) == pytest.approx(expected)


def test_a_number_that_an_output_does_not_have():
    with pytest.raises(ConfigError, match='no test output is called "rp/f1"'):
        solver('snapshot_best: "rp/f1"')
    with pytest.raises(ConfigError) as caught:
        solver('snapshot_best: "pr/f2"').solve()
    assert str(caught.value) == 'no test output is called "pr/f2"\n  Did you mean "pr/f1"?'


def test_what_is_better_lower():
    lower = [
        "loss",
        "val_loss",
        "logloss",
        "rmse",
        "test_MAE",
        "perplexity",
        "error",
        "top1/error",
        "loss1/loss",
        "time",
    ]
    assert all(lower_is_better(name, EarlyStopParameter.AUTO) for name in lower)
    higher = ["accuracy", "pr/f1", "auc", "terror", "maestro", "mAP", "miou", "loss3/top-1", "time_auc"]
    assert not any(lower_is_better(name, EarlyStopParameter.AUTO) for name in higher)
    assert lower_is_better("auc", EarlyStopParameter.LOWER) and not lower_is_better("loss", EarlyStopParameter.HIGHER)


def test_a_metric_names_an_output_or_a_number_of_one():
    assert names_output("loss1/top-1", ["loss1/top-1"]) and names_output("a/b/cat", ["a/b"])
    assert not names_output("a/cat", ["b"]) and not names_output("acc", ["accuracy"])
