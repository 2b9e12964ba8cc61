"""Arrays of any length for a net's Input layers: by which name, in which shape, in which batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from caffepy.arrays.columns import RowColumn, columns_of
from caffepy.data.composition import Dataset
from caffepy.errors import ConfigError, ShapeError, whole_number
from caffepy.net.named import unknown
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST, NetParameter

Batch = dict[str, np.ndarray]


def input_arrays(net: Net, x: Any, y: Any = None, needed: Sequence[str] | None = None) -> Batch:
    """`x` and `y`, arrays, dicts or a dataset, by the name of the input that they are for, with the shape of its items.

    All of `needed` (default: all inputs) must be there. Raises ConfigError and ShapeError that name the inputs.
    """
    check_inputs(net)
    arrays: dict[str, Any] = {}
    for values, name in zip((x, y), (*net.inputs, "y")):
        if isinstance(values, Dataset):
            arrays.update(columns_of(values, net.inputs[net.inputs.index(name) :] if name in net.inputs else ()))
        elif isinstance(values, Mapping):
            arrays.update(values)
        elif values is not None:
            arrays[name] = values
    for name in arrays:
        if name not in net.inputs:
            raise unknown("input", name, net.inputs)
    missing = [name for name in (net.inputs if needed is None else needed) if name not in arrays]
    if missing:
        raise ConfigError(
            f"no array is given for the input {', '.join(missing)}",
            hint=f"The net's inputs are: {', '.join(net.inputs)}. Give a dict of arrays by these names.",
        )
    out = {name: _items(net, name, values) for name, values in arrays.items()}
    lengths = {name: len(values) for name, values in out.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise ShapeError(f"the arrays must have one length, at least 1; they have {lengths}")
    return out


def check_inputs(net: Net) -> None:
    """Raises ConfigError if no array can be given to the net."""
    if not net.inputs:
        raise ConfigError(
            "the net has no Input layer to take arrays: its data layers bring the data",
            hint="Use a definition with Input layers, or run net.forward() and solver.step().",
        )


def _items(net: Net, name: str, given: Any) -> Any:
    """The array with items of the blob's shape; axes of length 1 may be missing or too many."""
    values = given if isinstance(given, RowColumn) else np.asarray(given)
    wanted = net.engine_blobs[name].shape[1:]
    found = values.shape[1:]
    if values.ndim and tuple(d for d in found if d != 1) == tuple(d for d in wanted if d != 1):
        return values.reshape(len(values), *wanted)
    raise ShapeError(
        f'the array for "{name}" has shape {values.shape}, items of the blob have {wanted}',
        hint="The first axis counts items, the others must be the blob's.",
    )


def length_of(arrays: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(arrays.values())))


def batch_length(net: Net, wanted: int | None = None) -> int:
    """How many items a batch has: `wanted`, or as many as the net's first input."""
    if wanted is not None:
        return whole_number("batch_size", wanted, least=1)
    shape = net.engine_blobs[net.inputs[0]].shape
    return max(1, shape[0]) if shape else 1


def fill(net: Net, batch: Mapping[str, np.ndarray]) -> None:
    """Shape the inputs for the batch's number of items, and fill them."""
    items, usual = length_of(batch), batch_length(net)
    for name in net.inputs:
        blob = net.engine_blobs[name]
        if name in batch or blob.shape[:1] == (usual,):
            blob.reshape(items, *blob.shape[1:])
    for name, values in batch.items():
        net.engine_blobs[name].fill(values)


@contextmanager
def sizes_kept(net: Net) -> Iterator[None]:
    """At the end the inputs, and with them all blobs, have their shapes of before again."""
    shapes = {name: net.engine_blobs[name].shape for name in net.inputs}
    try:
        yield
    finally:
        if any(net.engine_blobs[name].shape != shape for name, shape in shapes.items()):
            for name, shape in shapes.items():
                net.engine_blobs[name].reshape(shape)
            net.reshape()


def inference_net(net: Net) -> Net:
    """The net itself if its phase is TEST, else one like it in that phase, on the same weights."""
    if net.phase == TEST:
        return net
    if net.inference is None:
        param = NetParameter()
        param.CopyFrom(net.param)
        param.state.phase = TEST
        net.inference = Net(param, engine=net.engine)
    net.inference.share_trained_layers_with(net)
    for name in net.inputs:
        if name in net.inference.inputs:
            net.inference.engine_blobs[name].reshape(net.engine_blobs[name].shape)
    return net.inference
