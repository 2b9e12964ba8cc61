"""Piece: a net, or some of its layers, as what is exported: what they are given, and what they give."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from caffepy.net.blob import Blob
from caffepy.net.build import Node
from caffepy.net.net import Net


class Piece:
    """Layers of a net in their order, by default all. Their inputs are called as the blobs are, behind others' layers
    with `/given` added, since a layer that runs in place gives its top that name."""

    def __init__(self, net: Net, layers: Sequence[int] | None = None):
        self.net, self.is_whole = net, layers is None
        self.layers = list(range(len(net.nodes))) if layers is None else list(layers)

    @property
    def nodes(self) -> list[Node]:
        return [self.net.nodes[i] for i in self.layers]

    @cached_property
    def given(self) -> dict[str, Blob]:
        """The blobs that these layers read and others have made, by name."""
        found: dict[str, Blob] = {}
        made: set[str] = set()
        for node in self.nodes:
            found.update((name, blob) for name, blob in zip(node.bottom_names, node.bottom) if name not in made)
            made.update(node.top_names)
        return found

    @cached_property
    def inputs(self) -> dict[str, Blob]:
        """The graph's inputs."""
        if self.is_whole:
            return {name: self.net.engine_blobs[name] for name in self.net.inputs}
        return {f"{name}/given": blob for name, blob in self.given.items()}

    @cached_property
    def outputs(self) -> dict[str, Blob]:
        """The blobs that other layers read, or none."""
        if self.is_whole:
            return {name: self.net.engine_blobs[name] for name in self.net.outputs}
        mine, nodes = set(self.layers), self.net.nodes
        last = {name: blob for node in self.nodes for name, blob in zip(node.top_names, node.top)}
        within = {name for node in self.nodes for name in node.bottom_names}
        outside = {name for i, node in enumerate(nodes) if i not in mine for name in node.bottom_names}
        wanted = outside | set(self.net.outputs)
        return {name: blob for name, blob in last.items() if name in wanted or name not in within}
