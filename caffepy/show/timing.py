"""Time spent in each layer of a net."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from caffepy import passes
from caffepy.net.net import Net
from caffepy.show.flops import layer_flops


@dataclass
class LayerTimes:
    """Milliseconds an iteration: of each layer, of the passes, and of waiting for data."""

    layers: list[tuple[str, str]]
    flops: list[int] = field(default_factory=list)
    """Of each layer, forward and backward."""
    layer_forward: list[float] = field(default_factory=list)
    layer_backward: list[float] = field(default_factory=list)
    forward: float = 0.0
    backward: float = 0.0
    total: float = 0.0
    data_wait: float | None = None

    def table(self) -> str:
        """Name, type, forward and backward milliseconds, GFLOP/s of products, share of the whole: a line a layer."""
        whole = sum(self.layer_forward) + sum(self.layer_backward) or 1.0
        width = max([len(name) for name, _ in self.layers] + [5])
        kind = max([len(type_) for _, type_ in self.layers] + [4])
        titles = f"{'forward ms':>10}  {'backward ms':>11}  {'GFLOP/s':>8}  {'share':>6}"
        lines = [f"{'layer':<{width}}  {'type':<{kind}}  {titles}"]
        for (name, type_), flops, f, b in zip(self.layers, self.flops, self.layer_forward, self.layer_backward):
            speed = f"{flops / (f + b) / 1e6:.1f}" if flops else "-"
            share = (f + b) / whole
            lines.append(f"{name:<{width}}  {type_:<{kind}}  {f:>10.3f}  {b:>11.3f}  {speed:>8}  {share:>6.1%}")
        return "\n".join(lines)


def time_layers(net: Net, iterations: int, advance: Callable[[int], None] = lambda done: None) -> LayerTimes:
    """Mean times over `iterations`, after two forward and backward passes that are not counted.

    As in Caffe every layer runs backward, needed or not; layers without a gradient are passed over. An executor that
    knows no gradients is measured forward alone, and layers that it runs as one are one.
    """

    def clock() -> float:
        net.engine.wait()
        return time.perf_counter()

    executor = passes.of(net)
    groups = executor.together()
    forward, backward = [0.0] * len(groups), [0.0] * len(groups)
    for _ in range(2):
        if executor.gradients:
            executor.forward_backward()
        else:
            executor.forward()
    net.settle()
    waits = [layer for layer in net.layers if hasattr(layer, "data_wait")]
    waited = sum(layer.data_wait for layer in waits)
    start = clock()
    for done in range(1, iterations + 1):
        for i, group in enumerate(groups):
            before = clock()
            executor.forward(group)
            forward[i] += clock() - before
        for i, group in reversed([*enumerate(groups)] if executor.gradients else []):
            before = clock()
            executor.backward(group)
            backward[i] += clock() - before
        advance(done)
    total = clock() - start
    net.settle()
    scale = 1000 / iterations
    return LayerTimes(
        [_called(net, group) for group in groups],
        _flops(net, groups, executor.gradients),
        [t * scale for t in forward],
        [t * scale for t in backward],
        sum(forward) * scale,
        sum(backward) * scale,
        total * scale,
        (sum(layer.data_wait for layer in waits) - waited) * scale if waits else None,
    )


def _called(net: Net, group: Sequence[int]) -> tuple[str, str]:
    """Name and type of a layer, or of several."""
    first, last = net.layers[group[0]], net.layers[group[-1]]
    return (first.name, first.type) if first is last else (f"{first.name} to {last.name}", f"{len(group)} layers")


def _flops(net: Net, groups: Sequence[Sequence[int]], gradients: bool) -> list[int]:
    if gradients:
        counts = layer_flops(net)
    else:
        counts = [node.layer.flops(node.bottom, node.top) for node in net.nodes]
    return [sum(counts[i] for i in group) for group in groups]
