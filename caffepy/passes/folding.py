"""What inference need not compute: per-channel factors and offsets go into the weights of the layer before them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from caffepy.net.build import Node
from caffepy.net.net import Net

AFFINE = ("BatchNorm", "Scale", "Bias")
WEIGHTED = ("Convolution", "Deconvolution", "InnerProduct")


@dataclass
class Chain:
    """A layer with weights, and the layers behind it that multiply and add a number a channel."""

    first: int
    folded: list[int] = field(default_factory=list)


def chains(net: Net) -> list[Chain]:
    """Every layer with weights of a net in the TEST phase that is followed by layers which fold into it."""
    found = []
    for i, node in enumerate(net.nodes):
        if node.layer.type not in WEIGHTED or len(node.top) != 1:
            continue
        chain = Chain(i, list(_affine_behind(net, i)))
        if chain.folded:
            found.append(chain)
    return found


def _affine_behind(net: Net, i: int) -> Iterator[int]:
    name = net.nodes[i].top_names[0]
    while (j := _reader(net, i, name)) is not None and affine(net.nodes[j]) is not None:
        yield j
        i, name = j, net.nodes[j].top_names[0]


def _reader(net: Net, i: int, name: str) -> int | None:
    """The layer that reads what layer i has written; blobs of several readers have a Split for their only one."""
    return next((j for j in range(i + 1, len(net.nodes)) if name in net.nodes[j].bottom_names), None)


def affine(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """(a, b) a channel (float64) where the layer computes y = a x + b with numbers that stand fast, else None."""
    layer = node.layer
    if layer.type not in AFFINE or len(node.bottom) != 1:
        return None
    blobs = [blob.host().astype(np.float64) for blob in layer.blobs]
    if layer.type == "BatchNorm":
        if not layer.stored:  # type: ignore[attr-defined]
            return None
        scale = 0.0 if blobs[2][0] == 0 else 1 / blobs[2][0]
        factor = 1 / np.sqrt(blobs[1] * scale + layer.param.batch_norm_param.eps)
        return factor, -blobs[0] * scale * factor
    if layer.axis != 1 or blobs[0].ndim != 1:  # type: ignore[attr-defined]
        return None
    if layer.type == "Bias":
        return np.ones_like(blobs[0]), blobs[0]
    return blobs[0], blobs[1] if len(blobs) > 1 else np.zeros_like(blobs[0])


def folded_weights(net: Net, chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias (float32) with which the first layer computes what the whole chain does."""
    layer = net.nodes[chain.first].layer
    weights = layer.blobs[0].host().astype(np.float64)
    outputs = net.nodes[chain.first].top[0].shape[1]
    bias = layer.blobs[1].host().astype(np.float64) if len(layer.blobs) > 1 else np.zeros(outputs)
    factor = np.ones(outputs)
    for i in chain.folded:
        found = affine(net.nodes[i])
        assert found is not None
        factor, bias = factor * found[0], bias * found[0] + found[1]
    return _times_outputs(layer, weights, factor).astype(np.float32), bias.astype(np.float32)


def _times_outputs(layer, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The weights, those of each output times its factor."""
    if layer.type == "Deconvolution":  # (C, O / group, *kernel)
        group = layer.param.convolution_param.group
        of_group = factor.reshape(group, -1)
        parts = weights.reshape(group, -1, *weights.shape[1:])
        spread = of_group.reshape(group, 1, -1, *[1] * (weights.ndim - 2))
        return (parts * spread).reshape(weights.shape)
    if layer.type == "InnerProduct" and layer.param.inner_product_param.transpose:
        return weights * factor
    return weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
