"""Every recorded case of every layer that can be exported: onnxruntime computes what Caffe does."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

import caffepy
from caffepy.export.convert import exportable
from caffepy.export.onnx_file import ExportOptions, model_of
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from tests.layers.test_golden import FOLDER, cases, read
from tests.support import assert_close

EMPTY = "edge_max_empty_window"
CASES = [case for case in cases() if case.values[0] in exportable()]


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("layer_type, name", CASES)
def test_case(layer_type, name, dynamic):
    with h5py.File(FOLDER / f"{layer_type}.h5") as file:
        case = file[name]
        attrs = dict(case.attrs)
        bottoms, params, tops = (read(case, k) for k in ("bottom", "param", "top"))
    net = build(attrs["layer"], bottoms, len(tops), name)
    layer = net.layers[-1]
    for blob, values in zip(layer.blobs, params.values()):
        blob.data[...] = values
    for i, values in bottoms.items():
        net.blobs[f"in{i}"].data[...] = values
    reason = refused(net, layer_type, dynamic)
    try:
        model = model_of(net, ExportOptions(dynamic_batch=dynamic))
    except caffepy.errors.ConfigError as error:
        assert reason, error
        return
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    feed = {f"in{i}": np.asarray(values) for i, values in bottoms.items() if f"in{i}" in known}
    found = session.run(net.outputs, feed)
    net.forward()
    for output, values in zip(net.outputs, found):
        assert_close(values.reshape(net.blobs[output].shape), net.blobs[output].data, 2e-5)


def refused(net, layer_type: str, dynamic: bool) -> bool:
    """Whether the case is one that export says it cannot do."""
    over_items = layer_type == "ArgMax" and dynamic and net.layers[-1].axis == 0
    return layer_type == "Silence" or "STOCHASTIC" in str(net.layers[-1].param) or over_items or EMPTY in net.name


def build(text: str, bottoms: dict, tops: int, name: str = ""):
    """A TEST net of the layer, its bottoms as inputs."""
    param = parse(f"layer {{ {text} }}", NetParameter())
    layer = param.layer[0]
    layer.name = layer.name or "layer"
    del layer.bottom[:], layer.top[:]
    layer.ClearField("phase")
    net = NetParameter(name=name)
    for i, values in bottoms.items():
        made = net.layer.add(name=f"in{i}", type="Input", top=[f"in{i}"])
        made.input_param.shape.add(dim=values.shape)
        layer.bottom.append(f"in{i}")
    layer.top.extend(f"out{i}" for i in range(tops))
    net.layer.append(layer)
    return caffepy.Net(net, caffepy.TEST)
