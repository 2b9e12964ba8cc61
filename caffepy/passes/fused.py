"""Fused: a convolution and what follows it, done to its outputs while they are in cache. For nets of the TEST phase.

What follows: BatchNorm with stored statistics, Scale, Bias, the sum with a blob that is there already, ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from caffepy.engine.after import After
from caffepy.net.blob import Blob
from caffepy.net.build import Node
from caffepy.net.net import Net
from caffepy.passes.unseen import Unseen
from caffepy.passes.whole import OneLayer, Told, placed


class Link(NamedTuple):
    """A layer with its blobs: a net's own, or a copy for a part of the batch."""

    layer: Any
    bottom: list[Blob]
    top: list[Blob]
    node: Node


def group_at(net: Net, layers: Sequence[int]) -> list[int]:
    """The first of these layers, with those behind it that can be done to its outputs."""
    first = layers[0]
    node = net.nodes[first]
    if not node.layer.takes_after or len(node.top) != 1:
        return [first]
    return [first, *_behind(net, layers)]


def groups(net: Net, layers: Sequence[int]) -> list[list[int]]:
    """All of the layers, in order."""
    found: list[list[int]] = []
    while layers:
        found.append(group_at(net, layers))
        layers = layers[len(found[-1]) :]
    return found


def _behind(net: Net, layers: Sequence[int]) -> Iterator[int]:
    stage, name = 0, net.nodes[layers[0]].top_names[0]
    made: set[str] = {name}
    for before, i in pairwise(layers):
        node = net.nodes[i]
        if i != before + 1 or name not in node.bottom_names or len(node.top) != 1 or node.layer.loss_weights != [0]:
            return
        now = {"sum": 2, "relu": 3}.get(node.layer.comes_after, 0) or (1 if node.layer.affine() is not None else 4)
        if now < max(stage, 1) or now == 4 or (now > 1 and now == stage):
            return
        if now == 2 and (node.bottom_names.count(name) > 1 or made.intersection(set(node.bottom_names) - {name})):
            return
        stage, name = now, node.top_names[0]
        made.add(name)
        yield i


def forward(links: Sequence[Link]) -> bool:
    """Run the group; False, and nothing done, where its last top is memory that it reads."""
    first, last = links[0], links[-1]
    x, y, others = first.bottom[0], last.top[0], []
    factor = offset = None
    relu = False
    for number, link in enumerate(links[1:], 1):
        if link.layer.comes_after == "sum":
            before = links[number - 1].top[0]
            others = [blob for blob in link.bottom if blob is not before]
        elif link.layer.comes_after == "relu":
            relu = True
        else:
            a, b = link.layer.affine()
            factor = a if factor is None else factor * a
            offset = b if offset is None else offset * a + b
    engine = first.layer.engine
    if any(engine.same_memory(blob.memory(), y.flat()) for blob in (x, *others) if blob.data is not None):
        return False
    factor, offset = (None if v is None else engine.asarray(np.asarray(v, np.float32)) for v in (factor, offset))
    after = After(factor, offset, others[0].data if others else None, relu)
    placed(first.node, first.layer.forward_with, x, y, after)
    return True


def hidden(nodes: Sequence[Node]) -> list[Blob]:
    """The tops within the group that are not written."""
    kept = {id(blob) for blob in nodes[-1].top}
    return list({id(blob): blob for node in nodes for blob in node.top if id(blob) not in kept}.values())


class FusedRun:
    """A group of layers run over the whole batch. Before they go backward they run once more, one by one."""

    def __init__(self, net: Net, layers: Sequence[int]):
        self.layers: Sequence[int] = layers
        self.nodes = {i: net.nodes[i] for i in layers}
        self._unseen = Unseen(net, layers, hidden([*self.nodes.values()]))

    def forward(self, told: Told) -> None:
        for node in self.nodes.values():
            if not node.is_shaped:
                placed(node, node.reshape)
        if not forward([Link(node.layer, node.bottom, node.top, node) for node in self.nodes.values()]):
            self.one_by_one()
            return
        for node in self.nodes.values():
            node.layer.kept_by = ref(self)
        self._unseen.wait()

    def one_by_one(self) -> None:
        for i, node in self.nodes.items():
            OneLayer(node, i).forward(Told([], False))

    def run(self, layers: Sequence[int]) -> Again:
        return Again(self, layers)

    def backward(self, told: Told, wanted: dict[int, list[bool]]) -> None:
        self.run(self.layers[::-1]).backward(told, wanted)


class Again:
    """Some layers of a group, to go backward."""

    def __init__(self, group: FusedRun, layers: Sequence[int]):
        self.group, self.layers = group, layers

    def forward(self, told: Told) -> None:
        self.group.forward(told)

    def backward(self, told: Told, wanted: dict[int, list[bool]]) -> None:
        self.group.one_by_one()
        for i in self.layers:
            OneLayer(self.group.nodes[i], i).backward(told, wanted)
