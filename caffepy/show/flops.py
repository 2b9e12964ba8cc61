"""Floating-point operations of layers, with those of their gradients."""

from __future__ import annotations

from caffepy.net.net import Net


def layer_flops(net: Net) -> list[int]:
    """Floating-point operations of each layer's products: forward, and backward to parameters and bottoms if needed."""
    counts = []
    for node in net.nodes:
        times = 1 + any(node.layer.param_propagate_down) + any(node.bottom_need_backward)
        counts.append(times * node.layer.flops(node.bottom, node.top))
    return counts
