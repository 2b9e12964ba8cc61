"""What inference need not compute: per-channel factors and offsets go into the weights of the layer before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from caffepy.net.net import Net


@dataclass
class Chain:
    """A layer with weights, and the layers behind it that multiply and add a number a channel."""

    first: int
    folded: list[int] = field(default_factory=list)


def chains(net: Net, layers: Sequence[int]) -> list[Chain]:
    """Those of the layers with weights, in the TEST phase, that are followed by others of them which fold into it."""
    found, among = [], set(layers)
    for i in layers:
        node = net.nodes[i]
        if len(node.top) != 1 or not node.layer.takes_affine:
            continue
        chain = Chain(i, list(takewhile(among.__contains__, _affine_behind(net, i))))
        if chain.folded:
            found.append(chain)
    return found


def _affine_behind(net: Net, i: int) -> Iterator[int]:
    name = net.nodes[i].top_names[0]
    while (j := reader(net, i, name)) is not None and net.nodes[j].layer.affine() is not None:
        yield j
        i, name = j, net.nodes[j].top_names[0]


def reader(net: Net, i: int, name: str) -> int | None:
    """The layer that reads what layer i has written; blobs of several readers have a Split for their only one."""
    return next((j for j in range(i + 1, len(net.nodes)) if name in net.nodes[j].bottom_names), None)


def folded_weights(net: Net, chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias (float32) with which the first layer computes what the whole chain does."""
    node = net.nodes[chain.first]
    factor, offset = np.ones(node.top[0].shape[1]), np.zeros(node.top[0].shape[1])
    for i in chain.folded:
        found = net.nodes[i].layer.affine()
        assert found is not None
        factor, offset = factor * found[0], offset * found[0] + found[1]
    weights, bias = node.layer.with_affine(factor, offset)
    return weights.astype(np.float32), bias.astype(np.float32)
