"""What a net computes for every item of an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffepy import passes
from caffepy.arrays.inputs import batch_length, check_inputs, fill, inference_net, input_arrays, length_of, sizes_kept
from caffepy.errors import ConfigError, ShapeError
from caffepy.net.named import listed
from caffepy.net.net import Net


def predict(net: Net, x: Any, batch_size: int | None = None, output: str | Sequence[str] | None = None) -> Any:
    """The values of the net's outputs, or of the blob(s) `output`, for every item of `x`.

        probabilities = net.predict(images)                # (n, 10)
        features = net.predict(images, output="fc7")       # (n, 4096)

    `x` is an array for the first Input or a dict by input name. Returns an array, or a dict by name where the net
    has several outputs with values for each item, or where `output` is a list. Only the layers that lead to them run,
    in the TEST phase.
    """
    check_inputs(net)
    runner = inference_net(net)
    names = _outputs(runner) if output is None else listed(output)
    layers = _leading_to(runner, names)
    read = {*names}.union(*(runner.nodes[i].bottom_names for i in layers))
    arrays = input_arrays(runner, x, needed=[name for name in runner.inputs if name in read])
    size, length = batch_length(runner, batch_size), length_of(arrays)
    out: dict[str, np.ndarray] = {}
    with sizes_kept(runner):
        for start in range(0, length, size):
            fill(runner, {name: values[start : start + size] for name, values in arrays.items()})
            passes.of(runner).forward(layers)
            for name in names:
                part = _of_each_item(runner, name, min(size, length - start))
                if name not in out:
                    out[name] = np.empty((length, *part.shape[1:]), np.float32)
                out[name][start : start + size] = part
    runner.settle()
    return out[names[0]] if len(names) == 1 and (output is None or isinstance(output, str)) else out


def _of_each_item(net: Net, name: str, items: int) -> np.ndarray:
    """The values of a blob, if its first axis counts the batch's items."""
    values = net.engine_blobs[name].host()
    if values.shape[:1] != (items,):
        raise ShapeError(
            f'the blob "{name}" has shape {values.shape} for {items} items: its first axis does not count them',
            hint=f"Run net.forward_all(blobs=[{name!r}], ...), which joins blobs of any shape.",
        )
    return values


def _outputs(net: Net) -> list[str]:
    """The outputs that have values for each item."""
    items = batch_length(net)
    names = [name for name in net.outputs if net.engine_blobs[name].shape[:1] == (items,)]
    if not names:
        likely = sorted({net.source_of(node.bottom_names[0]) for node in net.nodes
                         if node.bottom_names and set(node.top_names) & set(net.outputs)})  # fmt: skip
        raise ConfigError(
            f"the outputs of the net ({', '.join(net.outputs)}) are values of a whole batch, not of each item",
            hint=f"Ask for a blob: net.predict(x, output={likely[0]!r})." if likely else "",
        )
    return names


def _leading_to(net: Net, names: Sequence[str]) -> list[int]:
    """The layers, in order, that the blobs `names` depend on."""
    for name in names:
        _ = net.engine_blobs[name]
    wanted = set(names)
    layers = []
    for i in reversed(range(len(net.nodes))):
        if wanted & set(net.nodes[i].top_names):
            layers.append(i)
            wanted.update(net.nodes[i].bottom_names)
    return layers[::-1]
