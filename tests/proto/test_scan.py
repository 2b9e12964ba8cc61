"""Messages looked through before they are parsed."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from caffepy.errors import SnapshotError
from caffepy.net import weights
from caffepy.proto import scan
from caffepy.proto.caffe_pb2 import BlobProto, NetParameter, SolverState
from caffepy.proto.tools import read_binary_net
from caffepy.solver import solverstate

NET = NetParameter(name="n")
for name in ("a", "b"):
    NET.layer.add(name=name, type="InnerProduct", top=["x"]).blobs.add(data=np.arange(9.0), shape={"dim": [3, 3]})


def test_the_parts_of_a_message_are_counted(monkeypatch):
    """The name, two layers, of each name, type, top and a blob, whatever is in that."""
    raw = NET.SerializeToString()
    for most, fits in ((10, False), (11, True)):
        monkeypatch.setattr(scan, "MOST_PARTS", most)
        found = NetParameter()
        if fits:
            scan.parse(raw, found)
            assert found == NET
        else:
            with pytest.raises(DecodeError, match="too many parts"):
                scan.parse(raw, found)


@pytest.mark.parametrize("raw", [b"\xa2\x06\x00" * 110_000, b"\x12\x00" * 110_000, b"\x1a\x00" * 110_000])
@pytest.mark.parametrize("reader", [weights.read_weights, read_binary_net, solverstate.read])
def test_a_file_of_empty_layers_is_refused_before_it_is_parsed(raw, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "MOST_PARTS", scan.MOST_PARTS // 10)  # for the test's sake: it counts as fast as it can
    if reader is solverstate.read and raw[0] != 0x1A:
        pytest.skip("no such field")
    path = tmp_path / "bomb"
    path.write_bytes(raw)
    with pytest.raises(SnapshotError, match="this is no complete"):
        reader(str(path))


def test_a_damaged_message_is_the_parsers_matter():
    for raw in (NET.SerializeToString()[:-3], b"\xff" * 30, b"\x0b", b"\x80"):
        with pytest.raises(DecodeError):
            scan.parse(raw, NetParameter())


def test_numbers_are_no_parts():
    """Written one by one, as some programs do."""
    raw = b"".join(b"\x2d" + np.float32(i).tobytes() for i in range(1000))
    blob = BlobProto()
    scan.parse(raw, blob)
    assert list(blob.data) == list(range(1000))


def test_the_first_fields_of_a_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(NET.SerializeToString())
    assert scan.first_fields(str(path)) == {(1, 2), (100, 2)}
    path.write_bytes(SolverState(iter=300, learned_net="x" * 70_000, current_step=2).SerializeToString())
    assert scan.first_fields(str(path)) == {(1, 0), (2, 2)}  # what lies far behind is not looked at
    for other in (b"text and more text", b"\x00" * 9, b"\x0a\xff\x01abc", b""):
        path.write_bytes(other)
        assert scan.first_fields(str(path)) == set()
