"""Weight files: both formats out and in, legacy shapes, and the refusal of all that does not fit."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy import TRAIN
from caffepy.engine import get_engine
from caffepy.errors import CaffeError, ShapeError, SnapshotError
from caffepy.net import weights
from caffepy.net.blob import Blob
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from caffepy.pycaffe.net import Net
from tests.support import ENGINES

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" param { name: "w" }
        inner_product_param { num_output: 4 weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
"""
FORMATS = {"caffemodel": weights.save, "caffemodel.h5": weights.save_hdf5}
FINE_TUNE = (
    "\n  To train it anew (fine-tuning), give the layer another name; to keep the weights, restore its parameters."
)


def build(text: str = NET, engine: str = "numpy") -> Net:
    return Net(parse(text, NetParameter()), TRAIN, engine=get_engine(engine))


def values(net: Net, which: str = "data") -> dict[str, list]:
    return {
        name: [np.array(net.engine.to_host(getattr(b, which))).tolist() for b in blobs]
        for name, blobs in net.params.items()
    }


def refused(net: Net, path, kind: type[CaffeError]) -> str:
    before = values(net)
    with pytest.raises(kind) as caught:
        net.copy_from(path)
    assert values(net) == before  # nothing half done
    return str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read(tmp_path, suffix, engine):
    path, net, other = str(tmp_path / f"a.{suffix}"), build(engine=engine), build(engine=engine)
    FORMATS[suffix](net, path)
    assert values(other) != values(net)
    other.copy_from(path)
    assert values(other) == values(net)


@pytest.mark.parametrize("suffix", FORMATS)
def test_gradients_are_written_if_asked(tmp_path, suffix):
    path, net = str(tmp_path / f"a.{suffix}"), build()
    for blobs in net.params.values():
        for blob in blobs:
            blob.diff[...] = blob.data
    FORMATS[suffix](net, path, write_diff=True)
    if suffix.endswith("h5"):
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["diff/ip/1"], net.params["ip"][1].diff)
    else:
        other = build()
        other.copy_from(path)
        assert values(other, "diff") == values(net, "diff")


@pytest.mark.parametrize("suffix", FORMATS)
def test_layers_are_matched_by_name(tmp_path, suffix, caplog):
    path, net = str(tmp_path / f"a.{suffix}"), build()
    FORMATS[suffix](net, path)
    other = build(NET.replace('name: "ip"', 'name: "new"'))
    before = values(other)["new"]
    with caplog.at_level("INFO", "caffepy"):
        other.copy_from(path)
    assert [r.getMessage() for r in caplog.records] == ["Ignoring source layer ip"]
    assert values(other) == {"conv": values(net)["conv"], "new": before}


def test_several_files_are_read_in_order(tmp_path):
    first, second = str(tmp_path / "a.caffemodel"), str(tmp_path / "b.h5")
    one, two = build(NET.replace('name: "ip"', 'name: "old"')), build()
    weights.save(one, first)
    weights.save_hdf5(two, second)
    net = build()
    net.copy_from(f"{first}, {second}")
    assert values(net) == values(two)
    net.copy_from([second, first])
    assert values(net) == {"conv": values(one)["conv"], "ip": values(two)["ip"]}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("num_output: 4", "num_output: 5"), "parameter 0 has shape (5, 48) here and (4, 48) in {path}"),
        (
            ("num_output: 4", "num_output: 4 transpose: true"),
            "parameter 0 has shape (48, 4) here and (4, 48) in {path}",
        ),
        (
            ("num_output: 4", "num_output: 4 bias_term: false"),
            "the layer has 1 parameter blob(s), in {path} {it_has}2",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused(tmp_path, suffix, change, problem):
    path = str(tmp_path / f"a.{suffix}")
    FORMATS[suffix](build(), path)
    net = build(NET.replace(*change))
    it_has = "" if suffix.endswith("h5") else "it has "
    expected = f'layer "ip": {problem.format(path=path, it_has=it_has)}{FINE_TUNE}'
    assert refused(net, path, ShapeError) == expected


def test_hdf5_without_a_parameter_is_refused(tmp_path):
    path, net = str(tmp_path / "a.h5"), build(NET.replace("num_output: 4", "num_output: 4 bias_term: false"))
    weights.save_hdf5(net, path)
    assert refused(build(), path, ShapeError) == (f'layer "ip": parameter 1 is missing in {path}{FINE_TUNE}')


def test_layer_names_that_hdf5_cannot_hold(tmp_path):
    path = str(tmp_path / "a.h5")
    with pytest.raises(SnapshotError) as caught:
        weights.save_hdf5(build(NET.replace('name: "ip"', 'name: "a/b"')), path)
    assert str(caught.value) == (
        f'{path}: layer name "a/b" contains "/", which the HDF5 format cannot hold\n'
        "  Rename the layer or use snapshot_format: BINARYPROTO."
    )
    assert not any(tmp_path.iterdir())


FILES = {
    "absent": (None, "cannot read the file: No such file or directory"),
    "empty": (b"", "the file holds no layers, so it is no caffemodel"),
    "text": (b'layer { name: "a" }', "this is no complete caffemodel: truncated, or another kind of file"),
    "hdf5": (
        b"\x89HDF\r\n\x1a\n and the rest is lost",
        "this is no complete HDF5 file: truncated, or another kind of file",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_hold_no_weights(tmp_path, kind):
    content, message = FILES[kind]
    path = tmp_path / "a.caffemodel"
    if content is not None:
        path.write_bytes(content)
    assert refused(build(), path, SnapshotError) == f"{path}: {message}"


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_files(tmp_path, suffix, part):
    path = tmp_path / f"a.{suffix}"
    FORMATS[suffix](build(), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    kind = "HDF5 file" if suffix.endswith("h5") else "caffemodel"
    assert refused(build(), path, SnapshotError) == (
        f"{path}: this is no complete {kind}: truncated, or another kind of file"
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_another_net_is_warned_of(tmp_path, suffix, caplog):
    path, net = str(tmp_path / f"a.{suffix}"), build()
    FORMATS[suffix](build(NET.replace('name: "conv"', 'name: "c"').replace('name: "ip"', 'name: "i"')), path)
    before = values(net)
    net.copy_from(path)
    assert values(net) == before
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{path}: no layer with parameters has a name that the net has: nothing was copied"]
    caplog.clear()
    net.save(path)
    build().copy_from(path)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_damaged_hdf5(tmp_path):
    path = tmp_path / "a.caffemodel.h5"
    weights.save_hdf5(build(), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"SNOD", b"XXXX").replace(b"TREE", b"XXXX"))  # h5py: KeyError, RuntimeError
    assert refused(build(), path, SnapshotError) == (
        f"{path}: this is no complete HDF5 file: truncated, or another kind of file"
    )


def test_gradients_of_another_count_are_refused(tmp_path):
    param = weights.to_proto(build(), write_diff=True)
    blob = next(layer for layer in param.layer if layer.blobs).blobs[0]
    del blob.diff[-1]
    path = tmp_path / "a.caffemodel"
    path.write_bytes(param.SerializeToString())
    assert f"values (diff) in {path}" in refused(build(), path, SnapshotError)


def test_hdf5_files_of_other_things(tmp_path):
    path = tmp_path / "a.h5"
    h5py.File(path, "w").close()
    assert refused(build(), path, SnapshotError) == f'{path}: the HDF5 file has no group "data", so it holds no weights'


def test_blobs_are_stored_in_c_order():
    blob = Blob((2, 3, 2, 2), get_engine("numpy"))
    blob.data[...] = np.arange(24).reshape(blob.shape)
    proto = weights.blob_to_proto(blob)
    assert list(proto.data) == list(range(24)) and list(proto.shape.dim) == [2, 3, 2, 2] and not proto.diff
