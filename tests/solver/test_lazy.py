"""On a device nothing is fetched in a training step: losses and refusals wait until somebody looks."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode

from caffepy import rng
from caffepy.engine import gpu_count
from caffepy.engine.torch.engine import TorchEngine
from caffepy.errors import DataError, NotFiniteError
from caffepy.proto import caffe_pb2, text
from caffepy.pycaffe.net import Net
from caffepy.pycaffe.solvers import Solver
from caffepy.show.timing import time_layers

NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 6 dim: 2 dim: 8 dim: 8 } shape { dim: 6 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""
DEVICES = [
    "cpu",
    pytest.param("cuda:0", marks=[pytest.mark.gpu, pytest.mark.skipif(not gpu_count(), reason="no GPU")]),
]


class Fetches(TorchDispatchMode):
    """Counts the calls that make the host wait for a device."""

    count = 0
    waits = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::equal"}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name().split(".")[0] in self.waits
        return func(*args, **(kwargs or {}))


def solver(engine: TorchEngine, more: str = "", net: str = NET) -> Solver:
    rng.seed(4)
    settings = 'base_lr: 0.1 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed" average_loss: 3 '
    param = text.parse(settings + more, caffe_pb2.SolverParameter())
    param.net_param.CopyFrom(text.parse(net, caffe_pb2.NetParameter()))
    return Solver(param, engine=engine)


def lazy(device: str = "cpu") -> TorchEngine:
    engine = TorchEngine(device)
    engine.lazy = True
    return engine


@pytest.mark.parametrize("more", ["", "iter_size: 2", "clip_gradients: 0.3", 'type: "Adam" momentum2: 0.99'])
@pytest.mark.parametrize("device", DEVICES)
def test_a_step_fetches_nothing(device, more):
    trained = solver(lazy(device), f"display: 4 {more}")
    trained.step(2)  # what is fetched once, at the start, is no matter
    with Fetches() as fetches:
        for _ in range(2):
            trained.net.clear_param_diffs()
            trained.smoothed_loss.add(trained._passes())
            trained.update()
        assert fetches.count == 0
        assert trained.smoothed_loss.value > 0
    assert fetches.count > 0


@pytest.mark.parametrize("more", ["", "iter_size: 2", "clip_gradients: 0.3"])
def test_the_same_training(more):
    plain, late = solver(TorchEngine(), more), solver(lazy(), more)
    for one in (plain, late):
        rng.seed(5)
        one.step(6)
    np.testing.assert_allclose(late.smoothed_loss.losses, plain.smoothed_loss.losses, rtol=1e-6)
    for ours, theirs in zip(late.net.learnable_params, plain.net.learnable_params):
        np.testing.assert_allclose(ours.blob.host(), theirs.blob.host(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
def test_a_wrong_label_is_reported_at_the_next_look(device):
    trained = solver(lazy(device), net=NET.replace("value: 2", "value: 5"))
    with pytest.raises(DataError) as caught:
        trained.step(3)
    assert 'label 5 at position (0,) of "label" is outside 0 .. 2' in str(caught.value)
    trained.net.settle()  # reported once


def test_a_wrong_label_is_reported_for_its_own_net_and_shape():
    engine = lazy()
    net = """
        layer {{ name: "in" type: "Input" top: "ip" top: "label"
          input_param {{ shape {{ dim: 2 dim: {classes} }} shape {{ dim: 2 }} }} }}
        layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
    """
    few, many = (Net(text.parse(net.format(classes=n), caffe_pb2.NetParameter()), engine=engine) for n in (3, 7))
    many.forward_from_to()
    few.engine_blobs["label"].fill(np.array([0, 5], np.float32))
    few.forward_from_to()
    many.settle()
    with pytest.raises(DataError, match=re.escape('label 5 at position (1,) of "label" is outside 0 .. 2')):
        few.settle()
    few.engine_blobs["label"].reshape(2, 1, 2)
    few.engine_blobs["ip"].reshape(2, 4, 1, 2)
    few.engine_blobs["label"].fill(np.array([[[0, 0]], [[4, 0]]], np.float32))
    few.forward_from_to()
    with pytest.raises(DataError, match=re.escape('label 4 at position (1, 0, 0) of "label" is outside 0 .. 3')):
        few.settle()


def test_wrong_labels_are_not_timed():
    net = Net(text.parse(NET.replace("value: 2", "value: 5"), caffe_pb2.NetParameter()), engine=lazy())
    with pytest.raises(DataError, match="label 5 at position"):
        time_layers(net, 1)


def test_a_loss_that_is_no_number_is_reported_at_the_next_look():
    trained = solver(lazy(), "display: 4")
    trained.step(1)
    trained.net.learnable_params[0].blob.data[...] = float("nan")
    with pytest.raises(NotFiniteError, match='iteration 4: loss = nan; layer "conv"'):
        trained.step(9)


def test_a_loss_that_is_no_number_ends_training_before_a_test_and_its_snapshot(tmp_path):
    tests = "test_iter: 1 test_interval: 3 test_initialization: false"
    trained = solver(lazy(), f'{tests} snapshot_best: "accuracy" snapshot_prefix: "{tmp_path}/out"')
    trained.step(2)
    trained.net.learnable_params[0].blob.data[...] = float("nan")
    with pytest.raises(NotFiniteError, match="iteration 3: loss = nan"):
        trained.step(4)
    assert not list(tmp_path.glob("out*"))
