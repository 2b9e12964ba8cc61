"""A net most of which is divided, and what its passes leave."""

from __future__ import annotations

import numpy as np

from caffepy import TRAIN, rng
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.passes import Divided, Executor
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from caffepy.pycaffe.net import Net
from tests.support import assert_close

NET = """
layer { name: "in" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 5 dim: 3 dim: 12 dim: 12 } shape { dim: 5 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 } }
layer { name: "left" type: "Convolution" bottom: "norm" top: "left"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "right" type: "Convolution" bottom: "norm" top: "right"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "prelu" type: "PReLU" bottom: "right" top: "right" }
layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }
layer { name: "drop" type: "Dropout" bottom: "both" top: "drop" dropout_param { dropout_ratio: 0.4 } }
layer { name: "ip" type: "InnerProduct" bottom: "drop" top: "ip"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "ip" top: "tanh" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "tanh" bottom: "t" top: "loss" }
"""


def build(text: str = NET, threads: int = 2, executor: type[Executor] = Divided) -> Net:
    rng.seed(7)
    net = Net(parse(text, NetParameter()), TRAIN, engine=NumpyEngine(threads))
    net.executor = executor(net)
    values = np.random.default_rng(1)
    for name in net.inputs:
        blob = net.blobs[name]
        blob.data[...] = values.integers(0, 6, blob.shape) if name == "t" else values.normal(size=blob.shape)
    return net


def passes(net: Net, count: int = 3) -> list[np.ndarray]:
    """All that forward and backward passes leave, the parameters changing in between."""
    found = []
    rng.seed(5)  # for Dropout
    for _ in range(count):
        net.clear_param_diffs()
        loss = net.forward_backward()
        found.append(np.float32(loss))
        for name, blob in net.blobs.items():
            found += [blob.data.copy(), blob.diff.copy()] if name not in net.inputs else []
        for param in net.learnable_params:
            found.append(param.blob.diff.copy())
            param.blob.data[...] -= 0.1 * param.blob.diff
    return found


def assert_same(found: list[np.ndarray], others: list[np.ndarray]) -> None:
    """The same bits."""
    for ours, other in zip(found, others, strict=True):
        np.testing.assert_array_equal(ours, other)


def assert_all_close(found: list[np.ndarray], references: list[np.ndarray], tolerance: float = 1e-4) -> None:
    for ours, reference in zip(found, references, strict=True):
        assert_close(ours, reference, tolerance=tolerance)


def gradients(net: Net) -> list[np.ndarray]:
    """Copies of the gradients of all parameters."""
    return [param.blob.diff.copy() for param in net.learnable_params]
