"""`caffepy check` and `caffepy summary`: lines, pages, JSON and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffepy.cli import main

MODELS = Path(__file__).parents[2] / "models"
NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 6 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 3 } }
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt"


def test_what_is_set_is_checked(net, capsys):
    main(["check", "--set", "net.layer.fc.inner_product_param.num_output=5", "net.prototxt"])
    assert "35 parameters" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["check", "--set", "net.layer.fd.name=x", "net.prototxt"])
    assert 'no layer is called "fd"' in capsys.readouterr().out


def test_a_right_net(net, capsys):
    main(["check", "net.prototxt"])
    assert capsys.readouterr().out == (
        "net.prototxt: net: 2 layers in TRAIN; 2 layers in TEST; 21 parameters\n1 file: 0 errors\n"
    )


def test_a_wrong_net_ends_with_1(net, capsys):
    net.write_text(NET.replace('bottom: "x"', 'bottom: "y"'))
    with pytest.raises(SystemExit, match="1"):
        main(["check", "net.prototxt"])
    assert capsys.readouterr().out == (
        'net.prototxt:2:1: error: layer "fc": unknown bottom "y" [cannot-be-built]\n'
        "  No layer before it has a top of this name.\n"
        "net.prototxt: net: 1 layers in TRAIN; 1 layers in TEST\n"
        "1 file: 1 error\n"
    )


def test_absent_data_are_no_failure(capsys, monkeypatch):
    monkeypatch.chdir(MODELS.parent)
    main(["check", "models/bvlc_alexnet/solver.prototxt", "models/bvlc_alexnet/train_val.prototxt"])
    out = capsys.readouterr().out
    assert out.endswith("2 files: 0 errors, 3 absent\n")  # those of the net are told once
    assert "Built with data 256x3x227x227, label 256, as told by the definition." in out


def test_files_that_are_none(net, capsys):
    (net.parent / "x.prototxt").write_bytes(b"\0\xff")
    with pytest.raises(SystemExit, match="1"):
        main(["check", "x.prototxt", "none.prototxt"])
    out = capsys.readouterr().out
    assert "x.prototxt: error: this is a binary file, a prototxt is expected [cannot-be-read]" in out
    assert "none.prototxt: error: cannot read the file: No such file or directory [cannot-be-read]" in out


def test_json(net, capsys):
    net.write_text(NET.replace("num_output: 3", "num_output: 0"))
    with pytest.raises(SystemExit):
        main(["check", "--json", "net.prototxt"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["ok"] is False and found["kind"] == "net"
    assert [state["state"] for state in found["states"]] == ["TRAIN", "TEST"]
    assert found["findings"] == [
        {
            "level": "error",
            "rule": "cannot-be-built",
            "message": "inner_product_param.num_output must be at least 1",
            "remedy": None,
            "file": "net.prototxt",
            "line": 2,
            "column": 1,
            "layer": "fc",
            "states": None,
        }
    ]


def test_shapes_are_given(net, capsys):
    main(["check", "--shape", "x=2,8", "net.prototxt"])
    assert "27 parameters" in capsys.readouterr().out
    for wrong, message in [("x=2,a", "--shape takes a top and its shape"), ("z=2", "--shape z: no source of data")]:
        with pytest.raises(SystemExit, match="1"):
            main(["check", "--shape", wrong, "net.prototxt"])
        assert message in capsys.readouterr().err


def test_no_code_of_a_net_runs_where_that_is_refused(net, capsys):
    (net.parent / "evil.py").write_text("raise SystemExit('it ran')")
    net.write_text('layer { name: "d" type: "Python" top: "x" python_param { module: "evil" layer: "L" } }')
    main(["check", "--no-python-layers", "net.prototxt"])
    assert 'the module "evil", which may not run, is not on the Python path' not in capsys.readouterr().out


def test_a_page_on_a_terminal(net, capsys, monkeypatch):
    from caffepy.cli import terminal

    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    net.write_text(NET.replace('bottom: "x"', 'bottom: "y"'))
    with pytest.raises(SystemExit):
        main(["check", "net.prototxt"])
    out = capsys.readouterr().out
    assert 'error layer "fc": unknown bottom "y"' in out and max(map(len, out.splitlines())) <= 60
    net.write_text(NET)
    main(["summary", "net.prototxt"])
    out = capsys.readouterr().out
    assert "InnerProduct" in out and max(map(len, out.splitlines())) <= 60


def test_summary(net, capsys):
    main(["summary", "net.prototxt", "--batch", "10"])
    out = capsys.readouterr().out
    assert out.startswith("TEST: 2 layers, 21 parameters\nlayer") and "10x3" in out
    main(["summary", "net.prototxt", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 21 and found["flops"] == 2 * 4 * 6 * 3


def test_summary_of_a_net_that_cannot_be_built(net, capsys):
    net.write_text(NET.replace("num_output: 3", "num_output: 0"))
    with pytest.raises(SystemExit, match="1"):
        main(["summary", "net.prototxt"])
    assert 'net.prototxt:2:1: layer "fc": inner_product_param.num_output must be' in capsys.readouterr().err
