"""Pictures of nets: Graphviz's dot text, SVG drawn here, and whatever else an installed Graphviz can write.

caffepy.draw.draw_net_to_file(net_param, "net.svg")
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from os import PathLike, fspath
from os.path import splitext
from typing import Any, NamedTuple

from google.protobuf.message import Message

from caffepy.errors import ConfigError
from caffepy.files import atomic_write, check_writable
from caffepy.net import wiring
from caffepy.net.layer import Layer, layer_class, layer_types
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter
from caffepy.show.placement import GAP, layered

BLOB_COLOUR = "#E0E0E0"
_HEIGHT, _LETTER, _BETWEEN = 34, 7, 34


class DrawnNode(NamedTuple):
    """A layer or a blob."""

    label: str
    colour: str
    is_layer: bool


class Drawing(NamedTuple):
    """Nodes by key, and edges between keys with their labels."""

    nodes: dict[str, DrawnNode]
    edges: list[tuple[str, str, str]]


def graph_of(
    net: NetParameter | str | PathLike[str],
    phase: int | None = None,
    label_edges: bool = True,
    display_lrm: bool = False,
) -> Drawing:
    """Layers, blobs and what leads where; of one phase, or of all layers of the definition.

    Edges lead to nodes that come later. Layers of different phases that make the same blob lead to one node.
    """
    param = text.definition(net).param
    layers: Iterable[LayerParameter] = param.layer
    if phase is not None:
        chosen = NetParameter()
        chosen.CopyFrom(param)
        chosen.state.phase = phase  # type: ignore[assignment]
        layers = [layer for layer, _ in wiring.filter_layers(chosen, iter([""] * len(param.layer)))]
    nodes: dict[str, DrawnNode] = {}
    edges: list[tuple[str, str, str]] = []
    latest: dict[str, str] = {}  # blob to its node: a layer in place makes a new one
    read: set[str] = set()
    for number, layer in enumerate(layers):
        key = f"layer {number}"
        for bottom in layer.bottom:
            if bottom not in latest:
                latest[bottom] = f"blob {bottom}"
                nodes[latest[bottom]] = DrawnNode(bottom, BLOB_COLOUR, False)
            read.add(latest[bottom])
            edges.append((latest[bottom], key, ""))
        nodes[key] = DrawnNode(_layer_label(layer, display_lrm), _kind(layer).colour, True)
        for top in layer.top:
            if top in layer.bottom:
                latest[top] = key  # in place: what comes next hangs on the layer
                continue
            if top not in latest or latest[top] in read or nodes[latest[top]].is_layer:
                latest[top] = f"blob {top}" if f"blob {top}" not in nodes else f"blob {top} {number}"
            nodes[latest[top]] = nodes.pop(latest[top], DrawnNode(top, BLOB_COLOUR, False))
            edges.append((key, latest[top], _edge_label(layer) if label_edges else ""))
    return Drawing(nodes, edges)


def _kind(layer: LayerParameter) -> type[Layer]:
    """The class of the layer; the base of all where there is none, for a net need not run to be drawn."""
    return layer_class(layer.type) if layer.type in layer_types() else Layer


def _own_param(layer: LayerParameter) -> Message | None:
    field = _kind(layer).param_field
    return getattr(layer, field) if field else None


def _layer_label(layer: LayerParameter, display_lrm: bool) -> str:
    lines = f"{layer.name} ({layer.type})" if layer.name != layer.type else layer.type
    p: Any = _own_param(layer)
    if p is not None and "kernel_size" in p.DESCRIPTOR.fields_by_name:
        lines += "\n" + ", ".join(f"{name} {size}" for name, size in _window(p).items())
    if display_lrm and layer.param:
        lines += f"\nlr_mult {', '.join(f'{p.lr_mult:g}' for p in layer.param)}"
    return lines


def _window(p: Any) -> dict[str, str]:
    """Size, stride, pad and way of a window, as far as they are given."""
    sizes = {}
    for field in ("kernel", "stride", "pad"):
        name = "kernel_size" if field == "kernel" else field
        value = getattr(p, name)
        both = [getattr(p, f"{field}_{axis}") for axis in "hw"]
        listed = list(value) if hasattr(value, "extend") else [value] if p.HasField(name) else []
        if any(both) or listed:
            sizes[field] = "x".join(map(str, both if any(both) else listed))
    if "pool" in p.DESCRIPTOR.fields_by_name:
        sizes["pool"] = p.PoolMethod.Name(p.pool)
    return sizes


def _edge_label(layer: LayerParameter) -> str:
    return str(getattr(_own_param(layer), "num_output", ""))


def dot(graph: Drawing, name: str = "net", rankdir: str = "LR") -> str:
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


def svg(graph: Drawing) -> str:
    """The graph as SVG, from top to bottom."""
    width = {key: 16 + _LETTER * max(map(len, node.label.split("\n"))) for key, node in graph.nodes.items()}
    layout = layered(width, [(start, end) for start, end, _ in graph.edges])
    step = _HEIGHT + _BETWEEN
    passes = list(layout.x.values())  # lines may run outside of all nodes
    left = min([layout.x[key] - width[key] / 2 for key in width] + passes, default=0) - GAP
    right = max([layout.x[key] + width[key] / 2 for key in width] + passes, default=0) + GAP
    height = step * len(set(layout.row.values())) + GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} {-GAP} {right - left:.0f} {height}" '
        f'width="{right - left:.0f}" height="{height}" font-family="Arial" font-size="12">'
    ]
    # Edges of one origin share parts of their way; each part is drawn once.
    parts = dict.fromkeys(pair for route in layout.routes.values() for pair in pairwise(route))
    for start, end in parts:
        x1, x2, y = layout.x[start], layout.x[end], layout.row[start] * step + _HEIGHT
        through = "" if end in graph.nodes else f" v{_HEIGHT}"
        curve = f"M{x1:.0f} {y} C{x1:.0f} {y + 20} {x2:.0f} {y + _BETWEEN - 20} {x2:.0f} {y + _BETWEEN}"
        out.append(f'<path d="{curve}{through}" fill="none" stroke="#555"/>')
    for start, end, label in graph.edges:
        if label:
            x, y = (layout.x[start] + layout.x[end]) / 2 + 4, layout.row[start] * step + _HEIGHT + _BETWEEN // 2
            out.append(f'<text x="{x:.0f}" y="{y}" fill="#555">{escape(label)}</text>')
    for key, node in graph.nodes.items():
        out += _svg_node(node, layout.x[key], layout.row[key] * step, width[key])
    return "\n".join([*out, "</svg>", ""])


def _svg_node(node: DrawnNode, x: float, y: int, width: int) -> Iterator[str]:
    corner = 3 if node.is_layer else _HEIGHT // 2
    place = f'x="{x - width / 2:.0f}" y="{y}" width="{width}" height="{_HEIGHT}" rx="{corner}"'
    yield f'<rect {place} fill="{node.colour}" stroke="#333"/>'
    lines = node.label.split("\n")
    for i, line in enumerate(lines):
        at = y + _HEIGHT / 2 + 4 + 14 * (i - (len(lines) - 1) / 2)
        yield f'<text x="{x:.0f}" y="{at:.0f}" text-anchor="middle">{escape(line)}</text>'


def draw_net(
    caffe_net: NetParameter | str | PathLike[str],
    rankdir: str = "LR",
    ext: str = "svg",
    phase: int | None = None,
    display_lrm: bool = False,
    label_edges: bool = True,
) -> bytes:
    """The picture of a net (a NetParameter or a prototxt) as the bytes of a file of type `ext`.

    svg, dot and gv need nothing; png, pdf and the like need Graphviz, which then also lays out svg and heeds `rankdir`:
    LR, TB, RL or BT. `phase` None draws the layers of all phases, `display_lrm` adds the learning rates' factors.
    """
    graph = graph_of(caffe_net, phase, label_edges, display_lrm)
    written = dot(graph, rankdir=rankdir)
    ext = ext.lower().lstrip(".")
    if not ext:
        raise ConfigError(
            "a picture's file needs a suffix that says its type", hint="Choose .svg or .dot, or with Graphviz .png."
        )
    if ext in ("dot", "gv"):
        return written.encode()
    program = shutil.which("dot")
    if program is None:
        if ext == "svg":
            return svg(graph).encode()
        raise ConfigError(
            f"a file of type {ext} needs Graphviz, whose dot is not on the path",
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
    display_lrm: bool = False,
) -> None:
    """Draw the net into a file; its suffix says the type."""
    path = fspath(filename)
    check_writable(path)
    picture = draw_net(caffe_net, rankdir, splitext(path)[1], phase, display_lrm)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(picture)
