"""The last layers of a net: as many outputs as there are classes, and new ones over frozen others to fine-tune."""

from __future__ import annotations

import re
from collections.abc import Mapping

from caffepy.errors import ConfigError, SnapshotError
from caffepy.hdf5 import open_hdf5
from caffepy.net import weights
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, LayerParameter, NetParameter
from caffepy.zoo import edits
from caffepy.zoo.catalogue import ZooEntry
from caffepy.zoo.edits import Block

HEAD_RATES = (10, 20)
"""Learning rates of a new last layer's weights and bias, the solver's being 1: as in Caffe's example of fine-tuning."""
_WANTED = "--finetune takes weights of this net."


def with_classes(entry: ZooEntry, definition: str, classes: int) -> str:
    """A net's definition with another number of classes. A top-k accuracy that could not be wrong goes."""

    def change(block: Block) -> str:
        part, layer = block
        if layer.type == "Accuracy" and layer.accuracy_param.top_k >= classes > 1:
            return ""

        def outputs(value: str) -> str:
            return str(int(value) // entry.classes * classes)

        if is_head(entry, layer):
            part = edits.values(part, "(?:num_output|group)", lambda v: outputs(v) if int(v) >= entry.classes else v)
        return edits.values(part, "num_classes", outputs)

    return edits.edit(definition, change)


def is_head(entry: ZooEntry, layer: LayerParameter) -> bool:
    """Whether a layer has an output a class; in a detector, that of several boxes."""
    outputs = [value.num_output for _, value in layer.ListFields() if hasattr(value, "num_output")]
    if entry.heads:
        return bool(outputs and re.search(entry.heads, layer.name))
    return bool(entry.classes and outputs == [entry.classes])


def frozen(entry: ZooEntry, nets: Mapping[str, str], folder: str, path: str) -> dict[str, str]:
    """The nets with last layers of new names, and all others held as they are in the weights of `path`.

    Raises SnapshotError where these are weights of another net.
    """
    new = {b.layer.name for part in nets.values() for b in edits.blocks(part)[1] if is_head(entry, b.layer)}
    suffix = re.sub(r"\W+", "_", folder)
    nets = {name: edits.edit(part, lambda block: _renamed(block, new, suffix)) for name, part in nets.items()}
    counts = _parameters(nets[entry.deploy], path)
    return {name: edits.edit(part, lambda block: _held(block, counts)) for name, part in nets.items()}


def _parameters(deploy: str, path: str) -> dict[str, int]:
    """How many parameters each layer has whose values the file holds."""
    net = Net(text.parse(deploy, NetParameter()), TEST)
    stored = _stored(path)
    counts = {layer.name: len(layer.blobs) for layer in net.layers if layer.blobs and layer.name in stored}
    if not counts:
        raise SnapshotError("no layer of it has a name that the net has", where=path, hint=_WANTED)
    try:
        weights.load(net, [path])
    except ConfigError as error:
        raise SnapshotError(f"these are weights of another net: {error.where}: {error.message}", hint=_WANTED) from None
    return counts


def _stored(path: str) -> set[str]:
    """The layers that a file of weights holds."""
    if not weights.is_hdf5(path):
        return {layer.name for layer in weights.read_weights(path).layer if layer.blobs}
    with open_hdf5(path, SnapshotError) as file:
        return set(file.group("data")) if file.is_group("data") else set()


def _renamed(block: Block, new: set[str], suffix: str) -> str:
    part, layer = block
    if layer.name not in new:
        return part
    part = edits.put(part, "name", edits.quoted(f"{layer.name}_{suffix}"), count=1)
    biased = all(value.bias_term for _, value in layer.ListFields() if hasattr(value, "bias_term"))
    lines = [f"param {{ lr_mult: {rate} decay_mult: {1 - i} }}" for i, rate in enumerate(HEAD_RATES[: 1 + biased])]
    return edits.with_lines(edits.without_messages(part, "param"), lines)


def _held(block: Block, counts: Mapping[str, int]) -> str:
    part, layer = block
    if layer.name not in counts:
        return part
    part = edits.without_messages(part, "param")
    if layer.type == "BatchNorm":  # its statistics, too
        part = edits.without_fields(part, "use_global_stats")
        if layer.HasField("batch_norm_param"):
            part = re.sub(r"batch_norm_param\s*{", "batch_norm_param { use_global_stats: true", part)
        else:
            part = edits.with_lines(part, ["batch_norm_param { use_global_stats: true }"])
    return edits.with_lines(part, ["param { lr_mult: 0 decay_mult: 0 }"] * counts[layer.name])
