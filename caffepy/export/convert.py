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
_counted: dict[str, int] = {}


def converts(
    *types: str, fixed_batch: bool = False, counted_axis: int | None = None
) -> Callable[[Converter], Converter]:
    """Decorator: the function writes layers of these types and returns the names of their tops' values.

    With `fixed_batch` a net that has such a layer keeps the number of items with which it is exported. The length of
    `counted_axis` of the tops is known after the layer has run.
    """

    def decorate(function: Converter) -> Converter:
        _converters.update(dict.fromkeys(types, function))
        _fixed.update(types if fixed_batch else ())
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
    """The shape of every blob, by id; None where it is known when the graph runs: of a batch, or of what is found."""
    net.reshape()
    fixed = _now(net)
    others = [counted] if (counted := _with_other_counts(net)) else []
    if dynamic and (grown := _with_another_item(net)):
        others.append(grown)
    net.reshape()
    return {key: _varying(shape, [other[key] for other in others]) for key, shape in fixed.items()}


def _now(net: Net) -> dict[int, tuple[int, ...]]:
    return {id(blob): blob.shape for node in net.nodes for blob in (*node.bottom, *node.top)}


def _varying(shape: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> Dims:
    return tuple(None if any(other[i] != dim for other in others) else dim for i, dim in enumerate(shape))


def _with_other_counts(net: Net) -> dict[int, tuple[int, ...]] | None:
    """The shapes if the layers whose tops have a length that only they know had found one thing more."""
    if not any(node.layer.type in _counted for node in net.nodes):
        return None
    for node in net.nodes:
        node.reshape()
        axis = _counted.get(node.layer.type)
        for blob in node.top if axis is not None else ():
            blob.reshape([dim + (i == axis) for i, dim in enumerate(blob.shape)])
    return _now(net)


def _with_another_item(net: Net) -> dict[int, tuple[int, ...]] | None:
    """The shapes for inputs of one item more; None, with a word of it, where the batch has to stay as it is."""
    for node in net.nodes:
        if node.layer.type in _fixed:
            log.info("The batch stays fixed: %s (%s) needs it so", node.place, node.layer.type)
            return None
    inputs = [net.engine_blobs[name] for name in net.inputs if net.engine_blobs[name].shape]
    before = [blob.shape for blob in inputs]
    if len({shape[0] for shape in before}) != 1:
        if inputs:
            log.info("The batch stays fixed: the inputs do not have one number of items")
        return None
    net.reshape()
    fixed = _now(net)
    try:
        for blob, shape in zip(inputs, before):
            blob.reshape(shape[0] + 1, *shape[1:])
        net.reshape()
        grown = _now(net)
    except (ShapeError, ConfigError) as error:
        log.warning("The batch stays fixed: %s", str(error).splitlines()[0])
        return None
    finally:
        for blob, shape in zip(inputs, before):
            blob.reshape(shape)
        net.reshape()
    if any(len(shape) != len(grown[key]) or _varying(shape, [grown[key]]).count(None) > 1
           for key, shape in fixed.items()):  # fmt: skip
        log.warning("The batch stays fixed: two axes of a blob grow with it")
        return None
    return grown
