"""The upgrade tools against what Caffe's made of the same files, exit statuses included."""

from __future__ import annotations

import json

import pytest

from caffepy.cli import main
from caffepy.proto import caffe_pb2, text
from tests.support import GOLDEN

FOLDER = GOLDEN / "upgrade"
INDEX = json.loads((FOLDER / "index.json").read_text())


def parsed(path, tool):
    if tool == "upgrade_net_proto_binary":
        message = caffe_pb2.NetParameter()
        message.ParseFromString(path.read_bytes())
        return message
    kind = caffe_pb2.SolverParameter if tool == "upgrade_solver_proto_text" else caffe_pb2.NetParameter
    return text.read(path, kind())


@pytest.mark.parametrize("name", INDEX)
def test_tool(name, tmp_path):
    tool = INDEX[name]["tool"]
    suffix = ".caffemodel" if "binary" in tool else ".prototxt"
    ours = tmp_path / f"out{suffix}"
    status = 0
    try:
        main([tool, str(FOLDER / f"{name}.in{suffix}"), str(ours)])
    except SystemExit as stop:
        status = stop.code
    assert status == INDEX[name]["exit_code"]
    assert parsed(ours, tool) == parsed(FOLDER / f"{name}.out{suffix}", tool)


def test_a_missing_file_is_named(capfd, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["upgrade-net-proto-binary", str(tmp_path / "nope"), str(tmp_path / "out")])
    assert stop.value.code == 1
    assert "nope: cannot read the file: No such file or directory" in capfd.readouterr().err
