"""What tests of the export share: a net from text with random weights, and what onnxruntime makes of its model."""

from __future__ import annotations

import numpy as np

from caffepy import passes
from caffepy.export.onnx_file import ExportOptions, model_of
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, NetParameter


def build(definition: str) -> Net:
    """A TEST net with random parameters, none of them negative, so that variances are allowed."""
    net = Net(text.parse(definition, NetParameter()), TEST)
    random = np.random.default_rng(3)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(random.uniform(0.1, 0.5, blob.shape))
    return net


def computed(net: Net, inputs: dict[str, np.ndarray], options: ExportOptions | None = None) -> dict[str, np.ndarray]:
    """What onnxruntime computes with the net's model, by output."""
    import onnxruntime

    model = model_of(net, options)
    assert {node.domain for node in model.graph.node} <= {""}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    found = session.run(net.outputs, {name: values for name, values in inputs.items() if name in known})
    return dict(zip(net.outputs, map(np.asarray, found)))


def ours(net: Net, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the net itself computes."""
    for name, values in inputs.items():
        net.engine_blobs[name].reshape(values.shape)
        net.engine_blobs[name].fill(values)
    passes.of(net).forward()
    return {name: net.engine_blobs[name].host().copy() for name in net.outputs}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
