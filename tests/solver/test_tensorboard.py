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


PICTURES = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def test_histograms_filters_graph_pictures_and_settings():
    Path("net.prototxt").write_text(PICTURES)
    solver = Solver(read_solver("s.prototxt"))
    first = solver.net.layers[1].blobs[0].host().copy()
    solver.solve()
    events = reader.EventAccumulator("curves", size_guidance={"images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    names = {blob.blob.name for blob in solver.net.learnable_params}
    assert set(tags["histograms"]) == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    histogram = next(events.Histograms(f"weights/{b.blob.name}") for b in solver.net.learnable_params)[0]
    value = histogram.histogram_value
    assert (histogram.step, value.num) == (0, first.size) and sum(value.bucket) == first.size
    assert value.min == pytest.approx(first.min()) and value.sum == pytest.approx(first.sum())
    assert {"filters/conv", "predictions/0"} == set(tags["images"])
    from caffepy.data.pictures import image

    drawn = image.decode(events.Images("filters/conv")[0].encoded_image_string, "")
    assert drawn.shape[0] == 3 and drawn.shape[1] > 30
    assert [shown.step for shown in events.Images("predictions/0")] == [0, 3, 6]
    assert tags["graph"]
    from tensorboard.compat.proto import graph_pb2

    graph = graph_pb2.GraphDef.FromString(events.Graph().SerializeToString())
    assert [(node.name, node.op, list(node.input)) for node in graph.node][1:] == [
        ("conv", "Convolution", ["data"]),
        ("ip", "InnerProduct", ["conv"]),
        ("loss", "SoftmaxWithLoss", ["ip", "data"]),
    ]
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    content = events.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["base_lr"].number_value == pytest.approx(0.01)
    assert start.hparams["lr_policy"].string_value == "step"
