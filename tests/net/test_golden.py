"""Whole nets against real Caffe: wiring, backward analysis, every blob, every gradient."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.proto import caffe_pb2
from caffepy.proto.text import Definition
from caffepy.pycaffe.net import Net
from tests.support import ENGINES, GOLDEN, assert_close

FILES = sorted((GOLDEN / "nets").glob("*.h5"))


def build(golden, engine: str, tmp_path) -> Net:
    path = tmp_path / "net.prototxt"
    path.write_text(golden.attrs["net"])
    phase = caffe_pb2.Phase.Value(golden.attrs["phase"])
    level, stages = int(golden.attrs.get("level", 0)), json.loads(golden.attrs.get("stages", "[]"))
    return Net(path, phase, level, stages, engine=get_engine(engine))


def close(engine, ours, reference) -> None:
    assert_close(engine.to_host(ours), reference, 1e-4)


@pytest.fixture(params=[path for path in FILES if path.stem != "weights_by_name"], ids=lambda path: path.stem)
def golden(request):
    with h5py.File(request.param) as file:
        yield file


@pytest.mark.parametrize("engine", ENGINES)
def test_wiring(golden, engine, tmp_path):
    attrs = golden.attrs
    net = build(golden, engine, tmp_path)
    built = [[p.name, p.type, list(p.bottom), net.top_names[p.name]] for p in (layer.param for layer in net.layers)]
    recorded = [[row["name"], row["type"], row["bottom"], row["top"]] for row in json.loads(attrs["layers"])]
    assert built == recorded
    assert list(net.blobs) == json.loads(attrs["blob_names"])
    assert net.inputs == json.loads(attrs["inputs"])
    assert net.outputs == json.loads(attrs["outputs"])
    assert {k: v for k, v in net.blob_loss_weights.items() if v} == json.loads(attrs["loss_weights"])
    assert net.data_bytes == int(attrs["data_bytes"])
    unforced = caffe_pb2.NetParameter()
    unforced.CopyFrom(net.param)
    unforced.force_backward = False
    analysed = Net(Definition(unforced, {}), engine=net.engine)
    assert {node.layer.name: node.need_backward for node in analysed.nodes} == json.loads(attrs["layer_need_backward"])


@pytest.mark.parametrize("engine", ENGINES)
def test_forward_and_backward(golden, engine, tmp_path):
    net = build(golden, engine, tmp_path)
    layers = [row["name"] for row in json.loads(golden.attrs["layers"])]
    if "caffemodel" in golden:
        (tmp_path / "weights.caffemodel").write_bytes(golden["caffemodel"][()].tobytes())
        net.copy_from(str(tmp_path / "weights.caffemodel"))
        check_params(net, layers, golden["params"])
    if "caffemodel.h5" in golden:
        (tmp_path / "weights.bin").write_bytes(golden["caffemodel.h5"][()].tobytes())
        net.copy_from(str(tmp_path / "weights.bin"))
        check_params(net, layers, golden["params"])
    check_passes(net, golden, layers)
    if "second" in golden:
        net.clear_param_diffs()
        check_passes(net, golden["second"], layers)


def check_params(net, layers, group) -> None:
    for name in layers:
        if group.get(name) is not None and isinstance(group[name], h5py.Group):
            for i, blob in enumerate(net.layer_dict[name].blobs):
                if str(i) in group[name]:
                    assert_close(net.engine.to_host(blob.data), group[name][str(i)][()], 1e-6)


def check_passes(net, golden, layers) -> None:
    engine = net.engine
    for name in net.inputs:
        net.blobs[name].data[...] = engine.asarray(golden["inputs"][name][()])
    loss = float(net.forward_from_to())
    assert loss == pytest.approx(float(golden["loss"][()]), rel=1e-4, abs=1e-6)
    for name in net.blobs:
        if name in golden["blobs"] and isinstance(golden["blobs"][name], h5py.Dataset):
            close(engine, net.blobs[name].data, golden["blobs"][name][()])
    if "param_diffs" not in golden and "input_diffs" not in golden:
        return
    for name in net.outputs:
        if name in golden.get("output_diffs", {}):
            net.blobs[name].diff[...] = engine.asarray(golden["output_diffs"][name][()])
    net.backward_from_to()
    for kind, group in (("diff", golden.get("param_diffs", {})), ("data", golden.get("params_after", {}))):
        for name in layers:
            if name in group:
                for i, blob in enumerate(net.layer_dict[name].blobs):
                    if str(i) in group[name]:
                        close(engine, getattr(blob, kind), group[name][str(i)][()])
    for name in golden.get("input_diffs", {}):
        close(engine, net.blobs[name].diff, golden["input_diffs"][name][()])


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_are_matched_by_name(engine, tmp_path, caplog):
    with h5py.File(GOLDEN / "nets" / "weights_by_name.h5") as golden:
        net = build(golden, engine, tmp_path)
        for name, group in golden["before"].items():
            for i, blob in enumerate(net.layer_dict[name].blobs):
                blob.data[...] = net.engine.asarray(group[str(i)][()])
        (tmp_path / "weights.caffemodel").write_bytes(golden["caffemodel"][()].tobytes())
        with caplog.at_level("INFO", "caffepy"):
            net.copy_from(str(tmp_path / "weights.caffemodel"))
        for name, group in golden["after"].items():
            for i, blob in enumerate(net.layer_dict[name].blobs):
                assert np.array_equal(net.engine.to_host(blob.data), group[str(i)][()])
        ignored = [r.getMessage().removeprefix("Ignoring source layer ") for r in caplog.records]
        assert set(json.loads(golden.attrs["ignored"])) <= set(ignored)
