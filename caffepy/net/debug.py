"""The lines that `debug_info: true` prints: mean absolute values of every blob, in Caffe's words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from caffepy.net.blob import Blob
    from caffepy.net.net import Net

log = logging.getLogger("caffepy.net")


def forward(net: Net, i: int) -> None:
    name = net.layers[i].name
    for top, blob in zip(net.names_of_tops[i], net.tops[i]):
        log.info("    [Forward] Layer %s, top blob %s data: %.6g", name, top, _mean_abs(blob, "data"))
    for number, blob in enumerate(net.layers[i].blobs):
        log.info(
            "    [Forward] Layer %s, param blob %s data: %.6g",
            name,
            _param(net, i, number),
            _mean_abs(blob, "data"),
        )


def backward(net: Net, i: int) -> None:
    layer = net.layers[i]
    for bottom, blob, wanted in zip(net.names_of_bottoms[i], net.bottoms[i], net.bottom_need_backward[i]):
        if wanted:
            log.info(
                "    [Backward] Layer %s, bottom blob %s diff: %.6g",
                layer.name,
                bottom,
                _mean_abs(blob, "diff"),
            )
    for number, (blob, wanted) in enumerate(zip(layer.blobs, layer.param_propagate_down)):
        if wanted:
            shown = _param(net, i, number)
            log.info(
                "    [Backward] Layer %s, param blob %s diff: %.6g",
                layer.name,
                shown,
                _mean_abs(blob, "diff"),
            )


def backward_total(net: Net) -> None:
    sums = {which: [norms(param.blob, which) for param in net.learnable_params] for which in ("data", "diff")}
    l1 = [sum(a for a, _ in sums[w]) for w in ("data", "diff")]
    l2 = [np.sqrt(sum(b for _, b in sums[w])) for w in ("data", "diff")]
    log.error("    [Backward] All net params (data, diff): L1 norm = (%.6g, %.6g); L2 norm = (%.6g, %.6g)", *l1, *l2)


def norms(blob: Blob, which: str) -> tuple[float, float]:
    """Sum of absolute values and sum of squares."""
    values = blob.engine.to_host(blob.flat(which)).astype(np.float64)
    return float(np.abs(values).sum()), float((values * values).sum())


def _mean_abs(blob: Blob, which: str) -> float:
    return norms(blob, which)[0] / blob.count if blob.count else 0.0


def _param(net: Net, i: int, number: int) -> str:
    specs = net.layers[i].param.param
    return specs[number].name if number < len(specs) and specs[number].name else str(number)
