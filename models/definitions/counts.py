"""What `index.json` says of a net that can be counted: input, parameters, GFLOP."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from caffepy import TEST, Net
from caffepy.zoo.catalogue import ZooEntry, zoo_folder


def counted(entry: ZooEntry) -> ZooEntry:
    """The entry with the figures of its `deploy`; as it is where there is none, or where that needs data."""
    if not entry.deploy or entry.folder.startswith("recommend/"):
        return entry
    net = Net(str(zoo_folder() / entry.folder / entry.deploy), TEST)
    batch, *item = shape = net.blobs[net.inputs[0]].shape
    size = " x ".join(map(str, item))
    if len(shape) == 2:  # (T, 1), or (1, T)
        batch, steps = sorted(shape)
        size = f"{steps} token{'s' if steps > 1 else ''}"
    operations = sum(node.layer.flops(node.bottom, node.top) for node in net.nodes)
    owned = {id(blob): blob.count for layer in net.layers for blob in _learnt(layer)}
    return replace(
        entry,
        input=size,
        parameters=sum(owned.values()),
        gflop=float(f"{operations / batch / 1e9:.4g}"),
    )


def _learnt(layer) -> list:
    """The parameters of a layer; the running statistics of BatchNorm are none."""
    return [] if layer.type == "BatchNorm" else list(layer.blobs)


def written(all_entries: list[ZooEntry]) -> str:
    """The text of the index: a line a net, without what is unset."""
    lines = [json.dumps({key: value for key, value in asdict(entry).items() if value}) for entry in all_entries]
    return "[\n  " + ",\n  ".join(lines) + "\n]\n"
