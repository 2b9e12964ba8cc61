"""The lines that `debug_info: true` prints: mean absolute values of every blob, in Caffe's words."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffepy.net.blob import Blob
from caffepy.net.observer import Observer

if TYPE_CHECKING:
    from caffepy.net.build import Node
    from caffepy.net.net import Net

log = logging.getLogger("caffepy.net")


class DebugLines(Observer):
    """Prints after every layer what it has made."""

    every_layer = True

    def __init__(self, net: Net):
        self.net = net

    def after_layers(self, layers: Sequence[int], backward: bool) -> None:
        for i in layers:
            (_backward if backward else _forward)(self.net.nodes[i])

    def after_pass(self, layers: Sequence[int], backward: bool) -> None:
        if backward:
            _total(self.net)


def _forward(node: Node) -> None:
    name = node.layer.name
    for top, blob in zip(node.top_names, node.top):
        log.info("    [Forward] Layer %s, top blob %s data: %.6g", name, top, _mean_abs(blob, "data"))
    for number, blob in enumerate(node.layer.blobs):
        shown, value = _param(node, number), _mean_abs(blob, "data")
        log.info("    [Forward] Layer %s, param blob %s data: %.6g", name, shown, value)


def _backward(node: Node) -> None:
    name = node.layer.name
    for bottom, blob, wanted in zip(node.bottom_names, node.bottom, node.bottom_need_backward):
        if wanted:
            log.info("    [Backward] Layer %s, bottom blob %s diff: %.6g", name, bottom, _mean_abs(blob, "diff"))
    for number, (blob, wanted) in enumerate(zip(node.layer.blobs, node.layer.param_propagate_down)):
        if wanted:
            shown, value = _param(node, number), _mean_abs(blob, "diff")
            log.info("    [Backward] Layer %s, param blob %s diff: %.6g", name, shown, value)


def _total(net: Net) -> None:
    sums = {which: [norms(param.blob, which) for param in net.learnable_params] for which in ("data", "diff")}
    l1 = [sum(a for a, _ in sums[w]) for w in ("data", "diff")]
    l2 = [np.sqrt(sum(b for _, b in sums[w])) for w in ("data", "diff")]
    log.error("    [Backward] All net params (data, diff): L1 norm = (%.6g, %.6g); L2 norm = (%.6g, %.6g)", *l1, *l2)


def norms(blob: Blob, which: str) -> tuple[float, float]:
    """Sum of absolute values and sum of squares."""
    flat = blob.flat(which) if which == "data" or blob.rows is None else blob.rows.dense()
    values = blob.engine.to_host(flat).astype(np.float64)
    return float(np.abs(values).sum()), float((values * values).sum())


def _mean_abs(blob: Blob, which: str) -> float:
    return norms(blob, which)[0] / blob.count if blob.count else 0.0


def _param(node: Node, number: int) -> str:
    specs = node.layer.param.param
    return specs[number].name if number < len(specs) and specs[number].name else str(number)
