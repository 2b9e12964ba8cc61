"""Binary nets of any Caffe: names, types and blobs, whatever else clashes."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from caffepy import TEST
from caffepy.errors import SnapshotError
from caffepy.net import weights
from caffepy.proto import binary
from caffepy.proto.blobs import proto_to_array
from caffepy.proto.caffe_pb2 import (
    BlobProto,
    InterpParameter,
    LayerParameter,
    NetParameter,
    PoolingParameter,
    UpsampleParameter,
)
from caffepy.proto.text import parse
from caffepy.proto.tools import read_binary_net
from caffepy.proto.wire import count_floats, get_floats
from caffepy.pycaffe.net import Net


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    """A field with a length: a message, a string, bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value)


BLOB = BlobProto(data=[1, 2, 3, 4])
BLOB.shape.dim.extend([2, 2])
LAYER = LayerParameter(name="ip", type="InnerProduct", bottom=["x"], top=["y"], blobs=[BLOB]).SerializeToString()
# What forks put where Caffe has other messages.
CLASHES = {
    "a string in the place of a message": field(143, b"abc"),
    "a message without the fields that ours requires": field(148, number(1, 3)),
    "a number in the place of a message": number(145, 2),
    "a message of other types": field(137, field(1, b"constant") + number(2, 7)),
    "an unknown number": field(8266799, number(1, 7)),
    "a broken message": field(147, b"\xff\xff\xff"),
    "an enum of other values": field(121, number(1, 77)),
    "a packed list": field(100, field(8, b"\0\0\x80\x3f\0")),
    "a rule with a phase that is none": field(8, number(1, 3)),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_names_types_and_blobs_are_read(clash):
    raw = field(1, b"net") + field(100, LAYER + CLASHES[clash]) + field(100, LAYER.replace(b"ip", b"iq", 1))
    net = binary.parse_net(raw)
    assert net.IsInitialized() and net.name == "net"
    for layer, name in zip(net.layer, ("ip", "iq"), strict=True):
        assert (layer.name, layer.type, list(layer.bottom), list(layer.top)) == (name, "InnerProduct", ["x"], ["y"])
        assert proto_to_array(layer.blobs[0]).tolist() == [[1, 2], [3, 4]]


def test_old_layers():
    old = field(4, b"conv") + number(5, 77) + field(6, BLOB.SerializeToString()) + field(43, b"unpooling")
    net = binary.parse_net(field(2, old + field(42, b"abc")))
    assert net.layers[0].name == "conv" and len(net.layers[0].blobs) == 1


def test_a_blob_with_more_than_ours():
    layer = field(1, b"ip") + field(7, BLOB.SerializeToString() + field(7, b"\xff") + number(20, 1))
    assert list(binary.parse_net(field(100, layer)).layer[0].blobs[0].data) == [1, 2, 3, 4]


@pytest.mark.parametrize("cut", [1, 5, 20])
@pytest.mark.parametrize("clash", ["a string in the place of a message", "an unknown number"])
def test_truncated_files(clash, cut):
    raw = field(100, LAYER + CLASHES[clash])
    with pytest.raises(DecodeError):
        binary.parse_net(raw[:-cut])


@pytest.mark.parametrize("raw", [b"\x89PNG\r\n\x1a\n", b"layer { }", bytes(range(256))])
def test_no_message_at_all(raw, tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(raw)
    with pytest.raises(SnapshotError):
        weights.read_weights(str(path))


def test_weights_of_a_fork_in_a_net(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"".join(field(100, LAYER + clash) for clash in CLASHES.values()))
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
              layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
                      inner_product_param { num_output: 2 bias_term: false } }"""
    net = Net(parse(text, NetParameter()), TEST, weights=str(path))
    assert net.params["ip"][0].data.tolist() == [[1, 2], [3, 4]]
    weights.save(net, str(tmp_path / "b.caffemodel"))


RAW = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2", "INT": "<i4", "UINT": "<u4", "BOOL": "?"}


@pytest.mark.parametrize("kind", RAW)
def test_nvidias_raw_values(kind):
    values = np.array([1, 0, 1, 1]) if kind == "BOOL" else np.array([1, 2, 3, 4])
    blob = BlobProto(raw_data_type=BlobProto.RawType.Value(kind), raw_data=values.astype(RAW[kind]).tobytes())
    blob.shape.dim.extend([2, 2])
    assert count_floats(blob, "data") == 4 and count_floats(blob, "diff") == 0
    found = get_floats(blob, "data")
    assert found.dtype == np.float32 and found.tolist() == values.tolist()


def test_parameters_under_a_number_that_caffe_uses_otherwise(tmp_path):
    interp = LayerParameter(name="i", type="Interp").SerializeToString()
    interp += field(143, InterpParameter(height=5, width=7).SerializeToString())
    upsample = LayerParameter(name="u", type="Upsample").SerializeToString()
    upsample += field(137, UpsampleParameter(scale_h=3, scale_w=4, pad_out_h=True).SerializeToString())
    path = tmp_path / "net.binaryproto"
    path.write_bytes(field(100, interp) + field(100, upsample))
    net = read_binary_net(str(path))
    assert net.layer[0].interp_param == InterpParameter(height=5, width=7)
    assert net.layer[1].upsample_param == UpsampleParameter(scale_h=3, scale_w=4, pad_out_h=True)
    assert not net.layer[0].HasField("input_param") and not net.layer[1].HasField("embed_param")


def pooling(tmp_path, value: int, *others: str) -> PoolingParameter:
    """The first layer's parameters, of a file with a pooling layer whose field 13 is `value`, and other layers."""
    layer = LayerParameter(name="p", type="Pooling").SerializeToString() + field(121, number(2, 3) + number(13, value))
    path = tmp_path / "net.binaryproto"
    path.write_bytes(
        field(100, layer) + b"".join(field(100, LayerParameter(type=t).SerializeToString()) for t in others)
    )
    return read_binary_net(str(path)).layer[0].pooling_param


@pytest.mark.parametrize("value", [0, 1])
def test_rounding_as_the_layers_around_say(value, tmp_path, caplog):
    p = pooling(tmp_path, value, "ReLU", "ConvolutionDepthwise")
    assert not p.HasField("round_mode") and p.ceil_mode == bool(value)
    assert not caplog.records


@pytest.mark.parametrize("value, mode", [(0, "CEIL"), (1, "FLOOR")])
def test_rounding_where_nothing_says(value, mode, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        p = pooling(tmp_path, value, "ReLU", "Convolution")
    assert p.round_mode == PoolingParameter.RoundMode.Value(mode) and not p.HasField("ceil_mode")
    (record,) = caplog.records
    assert record.getMessage() == (
        f'{tmp_path}/net.binaryproto: layer "p" and 0 more: taken for round_mode: {mode}, Caffe\'s; in forks the same '
        "number is ceil_mode, with the opposite sense"
    )
