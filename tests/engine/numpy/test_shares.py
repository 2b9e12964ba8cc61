"""What is summed does not depend on the number of threads: a run resumed on another machine gives the same bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from caffepy import rng
from caffepy.engine.numpy.conv import Flipped
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.engine.numpy.filtered import Filtered
from caffepy.engine.numpy.plain import Plain
from caffepy.proto import caffe_pb2, text
from caffepy.pycaffe.net import Net
from caffepy.solver import Solver

CONV = 'convolution_param {{ num_output: {} kernel_size: {} {} weight_filler {{ type: "xavier" }} }}'
NET = (
    """
layer { name: "in" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 12 dim: 4 dim: 40 dim: 40 } shape { dim: 12 }
  data_filler { type: "uniform" min: -1 max: 1 } data_filler { type: "constant" value: 3 } } }
layer { name: "filtered" type: "Convolution" bottom: "x" top: "a" """
    + CONV.format(32, 5, "pad: 2")
    + """ }
layer { name: "pool" type: "Pooling" bottom: "a" top: "b" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "b" top: "c" }
layer { name: "plain" type: "Convolution" bottom: "c" top: "d" """
    + CONV.format(64, 1, "group: 2")
    + """ }
layer { name: "scattered" type: "Convolution" bottom: "d" top: "e" """
    + CONV.format(48, 2, "stride: 2")
    + """ }
layer { name: "deconv" type: "Deconvolution" bottom: "e" top: "f" """
    + CONV.format(64, 4, "stride: 2 pad: 1")
    + """ }
layer { name: "batch" type: "BatchNorm" bottom: "f" top: "g" }
layer { name: "scale" type: "Scale" bottom: "g" top: "h" scale_param { bias_term: true } }
layer { name: "prelu" type: "PReLU" bottom: "h" top: "h" }
layer { name: "ip" type: "InnerProduct" bottom: "h" top: "y"
  inner_product_param { num_output: 64 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "t" top: "loss" }
"""
)
SOLVER = 'base_lr: 0.1 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed" random_seed: 3'


def trained(threads: int | None = None) -> str:
    """A digest of all values that two training steps leave, the batch in one piece."""
    engine = NumpyEngine(threads)
    engine.parts = 1
    rng.seed(3)
    param = text.parse(SOLVER, caffe_pb2.SolverParameter())
    param.net_param.CopyFrom(text.parse(NET, caffe_pb2.NetParameter()))
    solver = Solver(param, engine=engine)
    solver.step(2)
    digest = hashlib.sha256()
    for blob in (*solver.net.engine_blobs.values(), *(param.blob for param in solver.net.learnable_params)):
        digest.update(blob.host().tobytes() + blob.host("diff").tobytes())
    return digest.hexdigest()


def test_the_net_has_a_convolution_of_every_kind():
    net = Net(text.parse(NET, caffe_pb2.NetParameter()), engine=NumpyEngine(1))
    plans = {layer.name: layer.plan for layer in net.layers if "onvolution" in layer.type}
    products = {name: type(plan.products) for name, plan in plans.items()}
    assert products == {"filtered": Filtered, "plain": Plain, "scattered": Plain, "deconv": Filtered}
    backs = {name: type(plan.back) for name, plan in plans.items()}
    assert backs == {"filtered": Flipped, "plain": Flipped, "scattered": Plain, "deconv": Filtered}
    assert all(len(plan.products.shares) > 1 for plan in plans.values())


def in_a_process(threads: int) -> str:
    """The same, in a process that CAFFEPY_THREADS gives so many."""
    script = "from tests.engine.numpy.test_shares import trained; print(trained())"
    environment = {**os.environ, "CAFFEPY_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_same_bits_on_any_number_of_threads():
    assert len({in_a_process(threads) for threads in (1, 2, 4)}) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_repeated_in_one_process(threads):
    assert trained(threads) == trained(threads)
