"""Pictures of nets: what leads where, dot text, SVG, and the command."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import caffepy as caffe
from caffepy.cli import main
from caffepy.errors import CaffeError, ConfigError
from caffepy.proto import caffe_pb2, text
from caffepy.show import draw
from caffepy.show.draw import graph_of
from caffepy.show.placement import GAP, layered, spread

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*/*train*.prototxt"))
NET = r"""
name: "a \"small\" <net>"
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
layer { name: "d" type: "Input" top: "data" include { phase: TEST } }
layer { name: "conv<1>" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 1 } param { lr_mult: 2.5 }
  convolution_param { num_output: 20 kernel_h: 3 kernel_w: 5 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "pool" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "p" bottom: "c" top: "s" }
layer { name: "SoftmaxWithLoss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" include { phase: TRAIN } }
"""


@pytest.fixture
def net() -> caffe_pb2.NetParameter:
    return text.parse(NET, caffe_pb2.NetParameter())


@pytest.fixture
def no_graphviz(monkeypatch):
    monkeypatch.setenv("PATH", "")


def names(graph: draw.Drawing) -> dict[str, str]:
    return {key: node.label.split(" (")[0] for key, node in graph.nodes.items()}


def edges(graph: draw.Drawing) -> list[str]:
    name = names(graph)
    return [f"{name[start]} -> {name[end]}" + (f": {label}" if label else "") for start, end, label in graph.edges]


def test_what_leads_where(net):
    graph = graph_of(net)
    assert edges(graph) == [
        "d -> data", "d -> label",
        "d -> data",
        "data -> conv<1>", "conv<1> -> c: 20",
        "c -> relu",
        "relu -> pool", "pool -> p",  # behind the layer in place, not behind its blob
        "p -> sum", "relu -> sum", "sum -> s",
        "s -> SoftmaxWithLoss", "label -> SoftmaxWithLoss",
    ]  # fmt: skip
    assert list(names(graph).values()).count("data") == 1
    assert "conv<1> -> c" in edges(graph_of(net, label_edges=False))


def test_edges_lead_to_nodes_that_come_later():
    # "x" is read before anybody makes it, made twice, and made of itself.
    given = (
        'layer { name: "a" bottom: "x" top: "y" } layer { name: "b" bottom: "y" top: "x" } layer { name: "c" top: "x" }'
    )
    graph = graph_of(text.parse(given, caffe_pb2.NetParameter()))
    order = list(graph.nodes)
    assert edges(graph) == ["x -> a", "a -> y", "y -> b", "b -> x", "c -> x"]
    assert all(order.index(start) < order.index(end) for start, end, _ in graph.edges)
    assert list(names(graph).values()).count("x") == 2


@pytest.mark.parametrize(("phase", "left_out"), [(caffe.TRAIN, "d (Input)"), (caffe.TEST, "SoftmaxWithLoss")])
def test_one_phase(net, phase, left_out):
    whole = {node.label for node in graph_of(net).nodes.values() if node.is_layer}
    one = {node.label for node in graph_of(net, phase).nodes.values() if node.is_layer}
    assert left_out in whole - one and "relu (ReLU)" in one
    assert not net.HasField("state")


def test_labels_and_colours(net):
    nodes = {node.label.split("\n")[0]: node for node in graph_of(net).nodes.values()}
    assert nodes["conv<1> (Convolution)"] == ("conv<1> (Convolution)\nkernel 3x5, stride 2", "#FF5050", True)
    assert nodes["pool (Pooling)"] == ("pool (Pooling)\nkernel 3, pad 1, pool AVE", "#FF9900", True)
    assert nodes["SoftmaxWithLoss"].colour == nodes["relu (ReLU)"].colour != nodes["data"].colour
    with_rates = [node.label for node in graph_of(net, display_lrm=True).nodes.values()]
    assert [label for label in with_rates if "lr_mult" in label] == [
        "conv<1> (Convolution)\nkernel 3x5, stride 2\nlr_mult 1, 2.5"
    ]


def test_dot_text(net):
    graph = graph_of(net)
    out = draw.dot(graph, name=net.name, rankdir="TB")
    assert out.startswith('digraph "a \\"small\\" <net>" {\n  rankdir=TB;\n') and out.endswith("}\n")
    quoted = r'"(?:[^"\\\n]|\\.)*"'
    node = re.compile(rf'  {quoted} \[label={quoted} shape=(box|octagon) fillcolor="#\w{{6}}"\];')
    edge = re.compile(rf"  {quoted} -> {quoted}( \[label={quoted}\])?;")
    lines = out.splitlines()[3:-1]
    assert sum(bool(node.fullmatch(line)) for line in lines) == len(graph.nodes)
    assert sum(bool(edge.fullmatch(line)) for line in lines) == len(graph.edges)
    assert len(lines) == len(graph.nodes) + len(graph.edges)
    assert r'"conv<1> (Convolution)\nkernel 3x5, stride 2"' in out


def boxes(svg: str) -> np.ndarray:
    rects = [e for e in ElementTree.fromstring(svg) if e.tag.endswith("rect")]
    return np.array([[float(e.get(name)) for name in ("x", "y", "width", "height")] for e in rects])


@pytest.mark.parametrize("path", [None, *MODELS], ids=lambda path: path.parent.name if path else "small")
def test_svg_holds_every_layer_and_nothing_overlaps(path, net):
    graph = graph_of(path or net)
    root = ElementTree.fromstring(draw.svg(graph))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root if element.tag.endswith("text")}
    assert {line for node in graph.nodes.values() for line in node.label.split("\n")} <= texts
    found = boxes(draw.svg(graph))
    assert len(found) == len(graph.nodes)
    x, y, width, height = found.T
    left, top, whole_width, whole_height = map(float, root.get("viewBox").split())
    assert (x >= left).all() and (x + width <= left + whole_width).all()
    assert (y >= top).all() and (y + height <= top + whole_height).all()
    ends = [float(n) for e in root if e.tag.endswith("path") for n in re.findall(r"[MC ]([-\d]+) [-\d]+", e.get("d"))]
    assert left <= min(ends) and max(ends) <= left + whole_width
    apart = (np.abs(np.subtract.outer(x + width / 2, x + width / 2)) > np.add.outer(width, width) / 2) | (
        np.abs(np.subtract.outer(y, y)) > height[0]
    )
    assert (apart | np.eye(len(x), dtype=bool)).all()


def test_lines_run_beside_the_nodes():
    width = {"data": 40.0, "a": 100.0, "b": 100.0, "loss": 80.0}
    layout = layered(width, [("data", "a"), ("a", "b"), ("b", "loss"), ("data", "loss")])
    assert [layout.row[key] for key in width] == [0, 1, 2, 3]
    route = layout.routes["data", "loss"]
    assert [layout.row[key] for key in route] == [0, 1, 2, 3]
    for beside, node in zip(route[1:3], ("a", "b")):
        assert abs(layout.x[beside] - layout.x[node]) > width[node] / 2


class Salted(str):
    """A name with the hash of another run."""

    salt = 0

    def __hash__(self):
        return hash((Salted.salt, str(self)))


def test_a_layout_is_the_same_in_every_run(monkeypatch):
    random = np.random.default_rng(0)
    names = [Salted(f"n{i}") for i in range(40)]
    edges = [(names[i], names[j]) for j in range(1, 40) for i in random.integers(0, j, 3)]
    sizes = random.uniform(20, 90, 40).tolist()
    found = []
    for salt in range(4):
        monkeypatch.setattr(Salted, "salt", salt)
        found.append(list(layered(dict(zip(names, sizes)), edges).x.values()))
    assert found[0] == found[1] == found[2] == found[3]


def test_spread_is_the_nearest_without_overlap():
    assert spread([0, 1000], [10, 20], [1, 1]) == [0, 1000]
    # Both want 0: they move apart by half of what they need, or the heavier one less.
    need = 5 + GAP + 10
    np.testing.assert_allclose(spread([0, 0], [10, 20], [1, 1]), [-need / 2, need / 2])
    np.testing.assert_allclose(spread([0, 0], [10, 20], [3, 1]), [-need / 4, need * 3 / 4])
    np.testing.assert_allclose(np.diff(spread([9, 5, 1], [2, 2, 2], [1, 1, 1])), [2 + GAP] * 2)


def test_without_layers_there_is_an_empty_picture():
    ElementTree.fromstring(draw.svg(graph_of(caffe_pb2.NetParameter())))


@pytest.mark.parametrize("ext", ["svg", "dot", "gv", "SVG", ".svg"])
def test_these_need_no_graphviz(net, ext, no_graphviz):
    out = draw.draw_net(net, ext=ext)
    assert out.startswith(b"<svg" if "svg" in ext.lower() else b"digraph")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.png", r"^a file of type png needs Graphviz, whose dot is not on the path\n.*\.svg"),
        ("net", r"^a picture's file needs a suffix that says its type\n  Choose .svg or .dot"),
    ],
)
def test_the_others_say_that_they_do(net, name, message, tmp_path, no_graphviz):
    with pytest.raises(ConfigError, match=message):
        caffe.draw.draw_net_to_file(net, tmp_path / name)
    assert not list(tmp_path.iterdir())


def fake_graphviz(folder: Path, monkeypatch, script: str) -> None:
    (folder / "dot").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_graphviz_gets_the_dot_text_and_the_type(net, tmp_path, monkeypatch):
    fake_graphviz(tmp_path, monkeypatch, 'echo "$1"; cat')
    caffe.draw.draw_net_to_file(net, str(tmp_path / "net.pdf"), "BT", caffe.TEST, True)
    out = (tmp_path / "net.pdf").read_text()
    assert out == "-Tpdf\n" + draw.dot(graph_of(net, caffe.TEST, display_lrm=True), rankdir="BT")
    fake_graphviz(tmp_path, monkeypatch, "cat > /dev/null; echo 'no such format' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"Graphviz cannot write xyz: no such format\n  Try"):
        draw.draw_net(net, ext="xyz")


def test_a_folder_that_is_missing_is_told_first(net, tmp_path):
    with pytest.raises(CaffeError, match="there is no folder"):
        draw.draw_net_to_file(net, tmp_path / "none" / "net.svg")


def test_the_command(tmp_path, capsys, no_graphviz):
    given, out = tmp_path / "net.prototxt", tmp_path / "net.svg"
    given.write_text(NET)
    main(["draw", str(given), str(out), "--phase", "TEST", "--rankdir=TB", "--display_lrm"])
    assert capsys.readouterr().out == f"Drawing net to {out}\n"
    drawn = out.read_text()
    assert "lr_mult 1, 2.5" in drawn and "SoftmaxWithLoss" not in drawn
    for wrong, message in (
        ([str(given), str(tmp_path / "net.png")], "needs Graphviz"),
        ([str(tmp_path / "nett.prototxt"), str(out)], 'Did you mean "net.prototxt"?'),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["draw", *wrong])
        assert caught.value.code == 1 and message in capsys.readouterr().err


def test_a_type_that_is_not_installed_is_drawn_like_any_other():
    param = text.parse('layer { name: "x" type: "Foreign" bottom: "a" top: "b" }', caffe_pb2.NetParameter())
    nodes = graph_of(param).nodes
    assert (nodes["layer 0"].label, nodes["layer 0"].colour) == ("x (Foreign)", "#6495ED")
