"""Pictures of nets: Graphviz's dot text, SVG drawn here, and whatever else an installed Graphviz can write.

caffepy.draw.draw_net_to_file(net_param, "net.svg")
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from html import escape
from os import PathLike, fspath
from typing import NamedTuple

from caffepy import wiring
from caffepy.errors import ConfigError
from caffepy.files import atomic_write, check_writable
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter

COLOURS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
LAYER_COLOUR, BLOB_COLOUR = "#6495ED", "#E0E0E0"
_HEIGHT, _GAP, _LETTER, _BETWEEN = 34, 24, 7, 34


class Node(NamedTuple):
    """A layer (with the in-place layers that follow it not folded in) or a blob."""

    label: str
    colour: str
    is_layer: bool


class Graph(NamedTuple):
    """Nodes by key, and edges between keys with their labels."""

    nodes: dict[str, Node]
    edges: list[tuple[str, str, str]]


def graph_of(net: NetParameter | str | PathLike[str], phase: int | None = None, label_edges: bool = True) -> Graph:
    """Layers, blobs and what leads where; of one phase, or of all layers of the definition."""
    param = text.definition(net).param
    layers: Iterable[LayerParameter] = param.layer
    if phase is not None:
        chosen = NetParameter()
        chosen.CopyFrom(param)
        chosen.state.phase = phase
        layers = [layer for layer, _ in wiring.filter_layers(chosen, iter([""] * len(param.layer)))]
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str, str]] = []
    latest: dict[str, str] = {}  # blob to its node: a layer in place makes a new one
    for number, layer in enumerate(layers):
        key = f"layer {number}"
        nodes[key] = Node(_layer_label(layer), COLOURS.get(layer.type, LAYER_COLOUR), True)
        for bottom in layer.bottom:
            if bottom not in latest:
                latest[bottom] = f"blob {bottom}"
                nodes[latest[bottom]] = Node(bottom, BLOB_COLOUR, False)
            edges.append((latest[bottom], key, ""))
        for top in layer.top:
            if top in layer.bottom:
                latest[top] = key  # in place: what comes next hangs on the layer
                continue
            latest[top] = f"blob {top}" if f"blob {top}" not in nodes else f"blob {top} {number}"
            nodes[latest[top]] = Node(top, BLOB_COLOUR, False)
            edges.append((key, latest[top], _edge_label(layer) if label_edges else ""))
    return Graph(nodes, edges)


def _layer_label(layer: LayerParameter) -> str:
    lines = f"{layer.name} ({layer.type})" if layer.name != layer.type else layer.type
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        p = layer.pooling_param if layer.type == "Pooling" else layer.convolution_param
        sizes = {}
        for field, short in (("kernel", "kernel"), ("stride", "stride"), ("pad", "pad")):
            name = "kernel_size" if field == "kernel" else field
            value = getattr(p, name)
            both = [getattr(p, f"{field}_{axis}") for axis in "hw"]
            listed = list(value) if hasattr(value, "extend") else [value] if p.HasField(name) else []
            if any(both) or listed:
                sizes[short] = "x".join(map(str, both if any(both) else listed))
        if layer.type == "Pooling":
            sizes["pool"] = p.PoolMethod.Name(p.pool)
        lines += "\n" + ", ".join(f"{name} {size}" for name, size in sizes.items())
    return lines


def _edge_label(layer: LayerParameter) -> str:
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    return str(layer.inner_product_param.num_output) if layer.type == "InnerProduct" else ""


def dot(graph: Graph, name: str = "net", rankdir: str = "LR") -> str:
    """The graph as dot text."""
    lines = [f"digraph {_quoted(name or 'net')} {{", f"  rankdir={rankdir};", '  node [style=filled fontname="Arial"];']
    for key, node in graph.nodes.items():
        shape = "box" if node.is_layer else "octagon"
        lines.append(f'  {_quoted(key)} [label={_quoted(node.label)} shape={shape} fillcolor="{node.colour}"];')
    for start, end, label in graph.edges:
        lines.append(f"  {_quoted(start)} -> {_quoted(end)}" + (f" [label={_quoted(label)}];" if label else ";"))
    return "\n".join([*lines, "}", ""])


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def svg(graph: Graph) -> str:
    """The graph as SVG: every node below all that lead to it, near the middle of them."""
    width = {key: 16 + _LETTER * max(map(len, node.label.split("\n"))) for key, node in graph.nodes.items()}
    above: dict[str, list[str]] = defaultdict(list)
    for start, end, _ in graph.edges:
        above[end].append(start)
    rank: dict[str, int] = {}
    for key in _in_order(graph):
        rank[key] = 1 + max((rank[other] for other in above[key]), default=-1)
    rows: dict[int, list[str]] = defaultdict(list)
    for key in graph.nodes:
        rows[rank[key]].append(key)
    centre: dict[str, float] = {}
    for number in sorted(rows):
        wanted = {key: _mean([centre[other] for other in above[key]]) for key in rows[number]}
        row = sorted(rows[number], key=wanted.__getitem__)
        left = 0.0
        total = sum(width[key] for key in row) + _GAP * (len(row) - 1)
        left = _mean(list(wanted.values())) - total / 2
        for key in row:
            centre[key] = left + width[key] / 2
            left += width[key] + _GAP
    start_x = min((centre[key] - width[key] / 2 for key in centre), default=0) - _GAP
    right = max((centre[key] + width[key] / 2 for key in centre), default=0) + _GAP
    step = _HEIGHT + _BETWEEN
    height = step * len(rows) + _GAP
    box = f"{start_x:.0f} {-_GAP} {right - start_x:.0f} {height:.0f}"
    size = f'width="{right - start_x:.0f}" height="{height:.0f}"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {size} font-family="Arial" font-size="12">']
    for start, end, label in graph.edges:
        x1, y1, x2, y2 = centre[start], rank[start] * step + _HEIGHT, centre[end], rank[end] * step
        out.append(
            f'<path d="M{x1:.0f} {y1} C{x1:.0f} {y1 + 15} {x2:.0f} {y2 - 15} {x2:.0f} {y2}" fill="none" stroke="#555"/>'
        )
        if label:
            out.append(f'<text x="{(x1 + x2) / 2 + 4:.0f}" y="{(y1 + y2) / 2}" fill="#555">{escape(label)}</text>')
    for key, node in graph.nodes.items():
        x, y = centre[key] - width[key] / 2, rank[key] * step
        corner = 3 if node.is_layer else _HEIGHT // 2
        out.append(
            f'<rect x="{x:.0f}" y="{y}" width="{width[key]}" height="{_HEIGHT}" rx="{corner}" fill="{node.colour}" '
            'stroke="#333"/>'
        )
        lines = node.label.split("\n")
        for i, line in enumerate(lines):
            at = y + _HEIGHT / 2 + 4 + 14 * (i - (len(lines) - 1) / 2)
            out.append(f'<text x="{centre[key]:.0f}" y="{at:.0f}" text-anchor="middle">{escape(line)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _in_order(graph: Graph) -> Iterable[str]:
    """Keys such that edges lead forward."""
    waiting = {key: sum(end == key for _, end, _ in graph.edges) for key in graph.nodes}
    ready = [key for key, count in waiting.items() if not count]
    while ready:
        key = ready.pop()
        yield key
        for start, end, _ in graph.edges:
            if start == key:
                waiting[end] -= 1
                if not waiting[end]:
                    ready.append(end)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def draw_net(
    caffe_net: NetParameter | str | PathLike[str],
    rankdir: str = "LR",
    ext: str = "svg",
    phase: int | None = None,
    label_edges: bool = True,
) -> bytes:
    """The picture of a net (a NetParameter or a prototxt) as the bytes of a file of type `ext`.

    svg, dot and gv need nothing; png, pdf and the like need Graphviz, which then also lays out svg.
    """
    graph = graph_of(caffe_net, phase, label_edges)
    written = dot(graph, rankdir=rankdir)
    ext = ext.lower().lstrip(".")
    if ext in ("dot", "gv"):
        return written.encode()
    program = shutil.which("dot")
    if program is None:
        if ext == "svg":
            return svg(graph).encode()
        raise ConfigError(
            f"to draw {ext or 'without a suffix'} needs Graphviz, whose program dot is not on the path",
            hint="Install it (apt install graphviz), or choose a file that ends in .svg.",
        )
    done = subprocess.run([program, f"-T{ext}"], input=written.encode(), capture_output=True, check=False)
    if done.returncode:
        raise ConfigError(f"Graphviz cannot write {ext}: {done.stderr.decode().strip()}", hint="Try .svg or .png.")
    return done.stdout


def draw_net_to_file(
    caffe_net: NetParameter | str | PathLike[str],
    filename: str | PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
) -> None:
    """Draw the net into a file; its suffix says the type."""
    path = fspath(filename)
    check_writable(path)
    picture = draw_net(caffe_net, rankdir, path.rpartition(".")[2] if "." in path else "", phase)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(picture)
