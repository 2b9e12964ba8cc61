"""Recorded passes train as plain ones do. Without a GPU a stand-in repeats the recorded function by calling it."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from caffepy import rng
from caffepy.cli import main
from caffepy.engine import gpu_count
from caffepy.engine.torch.cuda_graph import record
from caffepy.engine.torch.engine import TorchEngine
from caffepy.errors import ConfigError
from caffepy.passes.recorded import WARM_UP, Recorded
from caffepy.pycaffe.net import Net
from tests.solver.test_lazy import NET, lazy, solver

gpu = [pytest.mark.gpu, pytest.mark.skipif(not gpu_count(), reason="no GPU")]


class StandIn:
    """Calls the function again, and checks that no blob has moved since the recording."""

    def __init__(self) -> None:
        self.recordings = self.repetitions = 0
        self.net: Net

    def addresses(self) -> list[int]:
        return [blob.flat("data").data_ptr() for node in self.net.nodes for blob in node.top]

    def __call__(self, engine, fn):
        fixed, kept = self.addresses(), {}
        self.recordings += 1

        def repeat():
            self.repetitions += 1
            assert self.addresses() == fixed
            return kept.setdefault("loss", torch.zeros(())).copy_(fn())

        return repeat


def recorded(trained, stand_in: StandIn):
    stand_in.net = trained.net
    trained.net.executor = Recorded(trained.net, stand_in)
    return trained


@pytest.mark.parametrize("more", ["", "iter_size: 2"])
def test_the_same_training(more):
    stand_in = StandIn()
    runs = [solver(lazy(), more), recorded(solver(lazy(), more), stand_in)]
    for run in runs:
        rng.seed(5)
        run.step(8)
    assert stand_in.recordings == 1 and stand_in.repetitions == 8 * (2 if "iter_size" in more else 1) - WARM_UP
    assert runs[0].smoothed_loss.losses == runs[1].smoothed_loss.losses
    for ours, theirs in zip(*(run.net.learnable_params for run in runs)):
        np.testing.assert_array_equal(ours.blob.host(), theirs.blob.host())


def test_the_same_random_numbers_plain_and_recorded(monkeypatch):
    """Two layers draw from a device's generator; a graph's repetition seeds nothing within itself."""
    drop = 'layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" }'
    net = NET.replace(drop, drop + drop.replace('"drop"', '"again"'))
    results, draw = [], rng.draw
    for graph in (True, False):
        engine, stand_in = lazy(), StandIn()
        engine.generator = torch.Generator()
        trained = recorded(solver(engine, net=net), stand_in)
        if not graph:
            trained.net.after_forward(lambda i: None)  # who looks gets plain passes
        drawn: list[int] = []
        monkeypatch.setattr(rng, "draw", lambda drawn=drawn: drawn.append(1) or draw())
        rng.seed(5)
        trained.step(6)
        assert stand_in.recordings == graph and len(drawn) == 6 and engine.seeds_each
        results.append([param.blob.host() for param in trained.net.learnable_params])
    for ours, theirs in zip(*results):
        np.testing.assert_array_equal(ours, theirs)


def test_another_shape_is_recorded_anew():
    stand_in = StandIn()
    trained = recorded(solver(lazy()), stand_in)
    trained.step(5)
    for blob in trained.net.nodes[0].top:
        blob.reshape(3, *blob.shape[1:])
    trained.step(5)
    assert stand_in.recordings == 2


def test_another_shape_of_an_input_is_recorded_anew():
    net = """
        layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 6 dim: 2 } } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1 } }
        layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1 }
    """
    stand_in = StandIn()
    trained = recorded(solver(lazy(), net=net), stand_in)
    trained.step(5)
    trained.net.engine_blobs["data"].reshape(3, 2)
    trained.step(5)
    assert stand_in.recordings == 2


def test_who_looks_in_between_gets_plain_passes():
    stand_in, seen = StandIn(), []
    trained = recorded(solver(lazy()), stand_in)
    trained.net.after_forward(seen.append)
    trained.step(5)
    assert not stand_in.recordings and len(seen) == 5 * len(trained.net.layers)


def test_what_cannot_be_recorded_runs_as_ever(caplog):
    def refuse(engine, fn):
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors ...")

    trained = solver(lazy())
    trained.net.executor = Recorded(trained.net, refuse)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        trained.step(6)
    assert caplog.messages == ["No CUDA graph: operation not permitted when stream is capturing"]


def test_python_layers_are_not_recorded():
    net = solver(lazy()).net
    net.layers[-1].recordable = False
    passes = Recorded(net, StandIn())
    assert passes.problem == 'layer "accuracy" (Accuracy) cannot be recorded'
    passes.forward_backward()


def test_needs_a_gpu(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="a CUDA graph needs a GPU"):
        Recorded(solver(lazy()).net)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2')
    with pytest.raises(SystemExit):
        main(["train", "--solver", "solver.prototxt", "--engine", "numpy", "--cuda-graph"])
    assert "error: a CUDA graph needs a GPU\n  Leave it out, or add --gpu 0." in capsys.readouterr().err


@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=gpu)])
def test_on_a_gpu(device):
    without_dropout = NET.replace('type: "Dropout"', 'type: "Power"')
    runs = [solver(TorchEngine(device), net=without_dropout) for _ in range(2)]
    runs[1].recorded = Recorded(runs[1].net, record)
    for run in runs:
        rng.seed(5)
        run.step(10)
    assert not runs[1].recorded.problem
    np.testing.assert_allclose(runs[1].smoothed_loss.losses, runs[0].smoothed_loss.losses, rtol=1e-4)
    for ours, theirs in zip(*(run.net.learnable_params for run in runs)):
        np.testing.assert_allclose(ours.blob.host(), theirs.blob.host(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=gpu)])
def test_on_a_gpu_dropout_is_the_same_plain_and_recorded(device):
    kept = []
    for graph in (True, False):
        trained = solver(TorchEngine(device))
        trained.recorded = Recorded(trained.net, record)
        if not graph:
            trained.net.after_forward(lambda i: None)
        rng.seed(5)
        trained.step(10)
        assert not trained.recorded.problem
        kept.append(trained.net.engine_blobs["norm"].host() != 0)
    np.testing.assert_array_equal(*kept)
