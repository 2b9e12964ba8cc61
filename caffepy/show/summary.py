"""A net layer by layer: shapes, parameters, operations, memory, and how much of the input a value sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from caffepy.net.blob import Blob
from caffepy.net.build import LearnableParam, Node
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.show.logs import printable
from caffepy.show.receptive_field import Fields

if TYPE_CHECKING:
    from rich.table import Table

FLOAT = 4
"""Bytes."""


class Built(Protocol):
    """A net, or a draft of one."""

    nodes: list[Node]
    param: NetParameter
    learnable_params: list[LearnableParam]


class Row(NamedTuple):
    """What a layer is and needs."""

    name: str
    type: str
    shapes: tuple[tuple[int, ...], ...]
    """Of its tops."""
    parameters: int
    """How many values; those that it shares with an earlier layer not counted."""
    flops: int
    """Of a forward pass, in products of matrices and convolutions."""
    data: int
    """Bytes of the tops; in place and for other views of a bottom none."""
    gradients: int
    """Bytes of the gradients of the tops, where backward needs them; those of Splits of a top count with it."""
    field: str
    """Height and width of the part of the input on which a value of the top depends; "all" of it."""


class Summary:
    """What `net.summary()` returns: `rows`, totals, and a table as its text."""

    def __init__(self, name: str, phase: str, rows: Sequence[Row], parameter_gradients: int):
        self.name, self.phase, self.rows = name, phase, list(rows)
        self.parameter_gradients = parameter_gradients
        """Bytes of the gradients of parameters that are trained."""

    @classmethod
    def of(cls, net: Built) -> Summary:
        """The summary of a net as it is built now."""
        state = net.param.state
        phase = type(state).DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number[state.phase].name
        trained = {
            number
            for node in net.nodes
            if node.need_backward
            for number, wanted in zip(node.params, node.layer.param_propagate_down)
            if wanted and net.learnable_params[number].lr_mult
        }
        gradients = sum(FLOAT * net.learnable_params[number].blob.count for number in trained)
        return cls(net.param.name, phase, list(_rows(net)), gradients)

    num_layers = property(lambda self: len(self.rows))
    parameters = property(lambda self: sum(row.parameters for row in self.rows))
    flops = property(lambda self: sum(row.flops for row in self.rows))
    data = property(lambda self: sum(row.data for row in self.rows))
    gradients = property(lambda self: sum(row.gradients for row in self.rows))

    @property
    def title(self) -> str:
        name = f'"{self.name}", ' if self.name else ""
        return f"{name}{self.phase}: {self.num_layers} layers, {self.parameters:,} parameters"

    @property
    def totals(self) -> str:
        """The whole in a sentence."""
        parts = [
            f"{giga(self.flops)} GFLOP forward",
            f"parameters {mega(FLOAT * self.parameters)} MB",
            f"data {mega(self.data)} MB",
        ]
        if self.gradients or self.parameter_gradients:
            of_parameters = mega(self.parameter_gradients)
            parts.append(f"gradients {mega(self.gradients)} MB of data and {of_parameters} MB of parameters")
        return ", ".join(parts)

    def table(self, separator: str = "\n") -> Table:
        """For rich. `separator` stands between the shapes of a layer's tops."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True, show_edge=False, collapse_padding=True)
        totals = ["total", "", "", count(self.parameters), giga(self.flops), mega(self.data), mega(self.gradients), ""]
        cells = [self._cells(row, separator) for row in self.rows]
        for i, (header, style) in enumerate(_COLUMNS.items()):
            if any(row[i] for row in cells):  # no gradients in TEST, no pixels among words
                table.add_column(header, totals[i], footer_style="bold", **style)
        for row in cells:
            table.add_row(*(cell for i, cell in enumerate(row) if any(other[i] for other in cells)))
        return table

    def _cells(self, row: Row, separator: str) -> list[str]:
        shapes = separator.join("x".join(map(str, shape)) or "scalar" for shape in row.shapes)
        numbers = [f(n) if n else "" for f, n in zip((count, giga, mega, mega), row[3:7])]
        return [printable(row.name), printable(row.type), shapes, *numbers, row.field]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        totals = ("parameters", "flops", "data", "gradients", "parameter_gradients")
        return {
            "name": self.name,
            "phase": self.phase,
            "layers": [row._asdict() for row in self.rows],
            **{name: getattr(self, name) for name in totals},
        }

    def __str__(self) -> str:
        from rich.console import Console

        out = StringIO()
        Console(file=out, width=10_000, color_system=None).print(self.table(", "))
        return "\n".join([self.title, *(line.rstrip() for line in out.getvalue().splitlines()), self.totals])

    __repr__ = __str__


_RIGHT: dict[str, Any] = {"justify": "right", "no_wrap": True}
_COLUMNS: dict[str, dict[str, Any]] = {
    "layer": {"overflow": "fold", "min_width": 5},
    "type": {"overflow": "fold", "style": "cyan"},
    "top": {"no_wrap": True},
    "params": _RIGHT,
    "GFLOP": _RIGHT,
    "data MB": _RIGHT,
    "grad MB": _RIGHT,
    "field": _RIGHT,
}


def giga(flops: int) -> str:
    """GFLOP with three digits."""
    return _three_digits(flops / 1e9)


def mega(size: int) -> str:
    """MB (2^20 bytes) with three digits."""
    return _three_digits(size / 2**20)


def count(number: int) -> str:
    """1234567 as 1.23 M."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{_three_digits(number / factor)} {unit}"
    return str(number)


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    if 0 < value < 0.001:
        return "<0.001"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-") if value else "0"


def _rows(net: Built) -> Iterator[Row]:
    fields = Fields()
    wanted = {id(b) for node in net.nodes for b, need in zip(node.bottom, node.bottom_need_backward) if need}
    copies: dict[int, int] = {}  # id of a blob: bytes of the gradients of its Split
    for node in net.nodes:
        if node.layer.type == "Split":
            copies[id(node.bottom[0])] = sum(FLOAT * blob.count for blob in node.top if id(blob) in wanted)
    for node in net.nodes:
        fields.add(node)
        if node.layer.type == "Split":
            continue
        own = [top for top in node.top if not any(top is bottom for bottom in node.bottom)]
        parameters = sum(blob.count for blob, mine in zip(node.layer.blobs, node.owned) if mine)
        data = sum(FLOAT * blob.count for blob in own) if not node.layer.shares_data else 0
        gradients = sum(_gradient(blob, node, wanted, copies) for blob in own)
        flops = node.layer.flops(node.bottom, node.top) if node.layer.blobs else 0
        shapes = tuple(blob.shape for blob in node.top)
        yield Row(node.layer.name, node.layer.type, shapes, parameters, flops, data, gradients, fields.text(node))


def _gradient(blob: Blob, node: Node, wanted: set[int], copies: dict[int, int]) -> int:
    mine = FLOAT * prod(blob.shape) if id(blob) in wanted and not node.layer.shares_data else 0
    return mine + copies.get(id(blob), 0)
