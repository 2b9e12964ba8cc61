"""A net as an ONNX graph: what converts each layer type, and how their values are called."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from caffepy.errors import ConfigError, ShapeError, locate
from caffepy.export import operators
from caffepy.export.onnx_graph import OnnxGraph
from caffepy.export.piece import Piece
from caffepy.net.build import Node
from caffepy.passes.folding import chains, folded_weights

log = logging.getLogger(__name__)

Dims = tuple[int | None, ...]
"""A shape; None stands for an axis that grows with the batch."""


@dataclass
class At:
    """A layer to be converted: what it reads, and the shapes around it."""

    node: Node
    x: list[str]
    """The values of its bottoms."""
    bottom: list[Dims]
    top: list[Dims]
    weights: list[np.ndarray]
    """Its parameters, with what is folded into them."""

    @property
    def layer(self):
        return self.node.layer

    @property
    def rank(self) -> int:
        return len(self.bottom[0])


Converter = Callable[[OnnxGraph, At], Sequence[str]]
_converters: dict[str, Converter] = {}
_fixed: dict[str, Callable[[Any], bool]] = {}
_counted: dict[str, int] = {}


def converts(
    *types: str, fixed_batch: bool | Callable[[Any], bool] = False, counted_axis: int | None = None
) -> Callable[[Converter], Converter]:
    """Decorator: the function writes layers of these types and returns the names of their tops' values.

    With `fixed_batch`, true or true of the layer, a net keeps the number of items with which it is exported, or where
    time is the first axis that of steps. The length of
    `counted_axis` of the tops is known after the layer has run.
    """

    def decorate(function: Converter) -> Converter:
        _converters.update(dict.fromkeys(types, function))
        if fixed_batch:
            _fixed.update(dict.fromkeys(types, fixed_batch if callable(fixed_batch) else lambda layer: True))
        if counted_axis is not None:
            _counted.update(dict.fromkeys(types, counted_axis))
        return function

    return decorate


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")


def exportable() -> list[str]:
    """The layer types that can be exported, sorted."""
    _import_all()
    return sorted(_converters)


def can_convert(node: Node) -> bool:
    """Whether there is an operator, or several, for the layer's type."""
    _import_all()
    return node.layer.type in _converters


def check(piece: Piece) -> None:
    """Raises ConfigError that names every layer which cannot be exported, with its place."""
    wrong = [node for node in piece.nodes if not can_convert(node)]
    if not wrong:
        return
    first, *others = (f"{node.place} ({node.layer.type})" for node in wrong)
    error = ConfigError(
        "layers of this type cannot be exported to ONNX",
        where=first,
        hint="".join(f"Nor can: {other}.\n  " for other in others)
        + "Export a deploy net: without data layers, losses and what runs Python.",
    )
    raise error


@dataclass
class Converted:
    """A graph, and the shapes of its inputs and outputs."""

    graph: OnnxGraph
    inputs: dict[str, Dims]
    outputs: dict[str, Dims]


def convert(piece: Piece, opset: int, dynamic: bool = True) -> Converted:
    """Layers of a net in the TEST phase as a graph."""
    check(piece)
    if not piece.outputs:
        raise ConfigError("the net has no outputs", hint="What a Silence reads is no output: leave that layer out.")
    net, graph = piece.net, OnnxGraph(opset)
    shapes = _shapes(piece, dynamic)
    linked = chains(net, piece.layers)
    folded = {i for chain in linked for i in chain.folded}
    weights = {chain.first: list(folded_weights(net, chain)) for chain in linked}
    ends = {chain.first: chain.folded[-1] for chain in linked}
    last = {name: i for i, node in zip(piece.layers, piece.nodes) for name in node.top_names}
    values = {} if piece.is_whole else dict(zip(piece.given, piece.inputs))
    for i, node in zip(piece.layers, piece.nodes):
        if i in folded:
            continue
        writes = net.nodes[ends.get(i, i)]
        at = At(
            node,
            [values[name] for name in node.bottom_names],
            [shapes[id(blob)] for blob in node.bottom],
            [shapes[id(blob)] for blob in writes.top],
            weights.get(i) or [blob.host() for blob in node.layer.blobs],
        )
        graph.layer = node.layer.name
        since = len(graph.operators)
        try:
            found = _converters[node.layer.type](graph, at)
        except Exception as error:
            locate(error, node.place)
            raise
        for name, value in zip(writes.top_names, found):
            is_last = last[name] == ends.get(i, i)
            values[name] = _named(graph, value, name if is_last else f"{name}/{node.layer.name}", since)
    for name in piece.outputs:
        if values[name] != name:  # another name of an input, or of a value that has its own
            graph.layer = name
            graph.rename(graph.op("Identity", values[name]), name)
    inputs, outputs = ({name: shapes[id(blob)] for name, blob in x.items()} for x in (piece.inputs, piece.outputs))
    return Converted(graph, inputs, outputs)


def _named(graph: OnnxGraph, value: str, name: str, since: int) -> str:
    """The value, called `name` if this layer has made it."""
    if not graph.makes(value, since):
        return value
    graph.rename(value, name)
    return name


def _shapes(piece: Piece, dynamic: bool) -> dict[int, Dims]:
    """The shape of every blob, by id; None where it is known when the graph runs: of a batch, or of what is found."""
    _reshape(piece)
    fixed = _now(piece)
    others = [counted] if (counted := _with_other_counts(piece)) else []
    if dynamic and (grown := _with_another_item(piece)):
        others.append(grown)
    _reshape(piece)
    return {key: _varying(shape, [other[key] for other in others]) for key, shape in fixed.items()}


def _reshape(piece: Piece) -> None:
    """Shape all that is made of what is given."""
    for node in piece.nodes:
        try:
            node.reshape()
        except Exception as error:
            locate(error, node.place)
            raise


def _now(piece: Piece) -> dict[int, tuple[int, ...]]:
    return {id(blob): blob.shape for node in piece.nodes for blob in (*node.bottom, *node.top)}


def _varying(shape: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> Dims:
    return tuple(None if any(other[i] != dim for other in others) else dim for i, dim in enumerate(shape))


def _with_other_counts(piece: Piece) -> dict[int, tuple[int, ...]] | None:
    """The shapes if the layers whose tops have a length that only they know had found one thing more."""
    if not any(node.layer.type in _counted for node in piece.nodes):
        return None
    for node in piece.nodes:
        node.reshape()
        axis = _counted.get(node.layer.type)
        for blob in node.top if axis is not None else ():
            blob.reshape([dim + (i == axis) for i, dim in enumerate(blob.shape)])
    return _now(piece)


def _with_another_item(piece: Piece) -> dict[int, tuple[int, ...]] | None:
    """The shapes for inputs of one item more; None, with a word of it, where the batch has to stay as it is."""
    for node in piece.nodes:
        if node.layer.type in _fixed and _fixed[node.layer.type](node.layer):
            log.info("The batch stays fixed: %s (%s) needs it so", node.place, node.layer.type)
            return None
    inputs = [blob for blob in piece.inputs.values() if blob.shape]
    before = [blob.shape for blob in inputs]
    if len({shape[0] for shape in before}) != 1:
        if inputs:
            log.info("The batch stays fixed: the inputs do not have one number of items")
        return None
    _reshape(piece)
    fixed = _now(piece)
    try:
        for blob, shape in zip(inputs, before):
            blob.reshape(shape[0] + 1, *shape[1:])
        _reshape(piece)
        grown = _now(piece)
    except (ShapeError, ConfigError) as error:
        log.warning("The batch stays fixed: %s", str(error).splitlines()[0])
        return None
    finally:
        for blob, shape in zip(inputs, before):
            blob.reshape(shape)
        _reshape(piece)
    if any(len(shape) != len(grown[key]) or _varying(shape, [grown[key]]).count(None) > 1
           for key, shape in fixed.items()):  # fmt: skip
        log.warning("The batch stays fixed: two axes of a blob grow with it")
        return None
    return grown
