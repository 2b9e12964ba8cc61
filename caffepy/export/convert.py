"""A net as an ONNX graph: what converts each layer type, and how their values are called."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from caffepy.errors import ConfigError, ShapeError, locate
from caffepy.export import operators
from caffepy.export.graph import Graph
from caffepy.net.build import Node
from caffepy.net.net import Net
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


Converter = Callable[[Graph, At], Sequence[str]]
_converters: dict[str, Converter] = {}
_fixed: set[str] = set()


def converts(*types: str, fixed_batch: bool = False) -> Callable[[Converter], Converter]:
    """Decorator: the function writes layers of these types and returns the names of their tops' values.

    With `fixed_batch` a net that has such a layer keeps the number of items with which it is exported.
    """

    def decorate(function: Converter) -> Converter:
        _converters.update(dict.fromkeys(types, function))
        _fixed.update(types if fixed_batch else ())
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


def check(net: Net) -> None:
    """Raises ConfigError that names every layer which cannot be exported, with its place."""
    _import_all()
    wrong = [node for node in net.nodes if node.layer.type not in _converters]
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


def convert(net: Net, opset: int, dynamic: bool = True) -> tuple[Graph, dict[str, Dims]]:
    """The graph of a net in the TEST phase, and the shapes of inputs and outputs."""
    check(net)
    if not net.outputs:
        raise ConfigError("the net has no outputs", hint="What a Silence reads is no output: leave that layer out.")
    graph = Graph(opset)
    shapes = _shapes(net, dynamic)
    folded = {i for chain in chains(net) for i in chain.folded}
    weights = {chain.first: list(folded_weights(net, chain)) for chain in chains(net)}
    ends = {chain.first: chain.folded[-1] for chain in chains(net)}
    last = {name: i for i, node in enumerate(net.nodes) for name in node.top_names}
    values: dict[str, str] = {}
    for i, node in enumerate(net.nodes):
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
    for name in net.outputs:
        if values[name] != name:  # another name of an input, or of a value that has its own
            graph.layer = name
            graph.rename(graph.op("Identity", values[name]), name)
    return graph, {name: shapes[id(net.engine_blobs[name])] for name in (*net.inputs, *net.outputs)}


def _named(graph: Graph, value: str, name: str, since: int) -> str:
    """The value, called `name` if this layer has made it."""
    if not graph.makes(value, since):
        return value
    graph.rename(value, name)
    return name


def _shapes(net: Net, dynamic: bool) -> dict[int, Dims]:
    """The shape of every blob, by id; with None where it follows from the number of items of the inputs."""
    fixed = {id(blob): blob.shape for node in net.nodes for blob in (*node.bottom, *node.top)}
    if not dynamic or not net.inputs:
        return dict(fixed)
    for node in net.nodes:
        if node.layer.type in _fixed:
            log.info("The batch stays fixed: %s (%s) needs it so", node.place, node.layer.type)
            return dict(fixed)
    inputs = [net.engine_blobs[name] for name in net.inputs if net.engine_blobs[name].shape]
    before = [blob.shape for blob in inputs]
    batches = {shape[0] for shape in before}
    if len(batches) != 1:
        log.info("The batch stays fixed: the inputs do not have one number of items")
        return dict(fixed)
    try:
        for blob, shape in zip(inputs, before):
            blob.reshape(shape[0] + 1, *shape[1:])
        net.reshape()
        other = {id(blob): blob.shape for node in net.nodes for blob in (*node.bottom, *node.top)}
    except (ShapeError, ConfigError) as error:
        log.warning("The batch stays fixed: %s", str(error).splitlines()[0])
        return dict(fixed)
    finally:
        for blob, shape in zip(inputs, before):
            blob.reshape(shape)
        net.reshape()
    found: dict[int, Dims] = {}
    for key, shape in fixed.items():
        dims = tuple(None if a != b else a for a, b in zip(shape, other[key]))
        if dims.count(None) > 1 or len(shape) != len(other[key]):
            log.warning("The batch stays fixed: two axes of a blob grow with it")
            return dict(fixed)
        found[key] = dims
    return found
