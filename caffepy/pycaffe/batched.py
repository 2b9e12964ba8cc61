"""pycaffe's passes over arrays of any length: cut into batches, the last one filled up with zeros."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from caffepy.errors import ConfigError, ShapeError

Named = dict[str, np.ndarray]


class Passes(Protocol):
    """What of a net is needed here."""

    inputs: list[str]
    outputs: list[str]

    @property
    def blobs(self) -> Any: ...

    def forward(self, blobs: Any, start: str | None, end: str | None, **inputs: Any) -> Named: ...

    def backward(self, diffs: Any, start: str | None, end: str | None, **gradients: Any) -> Named: ...


def forward_all(net: Passes, blobs: Sequence[str] | None, inputs: Mapping[str, Any]) -> Named:
    """The outputs and `blobs` for all items of `inputs`."""
    parts: list[Named] = []
    length, size = _length(net, inputs), _batch_size(net)
    for batch in batches(inputs, size):
        parts.append(_copies(net.forward(blobs, None, None, **batch)))
    return _joined(parts, length, size)


def forward_backward_all(
    net: Passes, blobs: Sequence[str] | None, diffs: Sequence[str] | None, arrays: Mapping[str, Any]
) -> tuple[Named, Named]:
    """Values of outputs and `blobs`, gradients of inputs and `diffs`; `arrays` holds inputs and output gradients."""
    missing = [name for name in (*net.inputs, *net.outputs) if name not in arrays]
    if missing:
        raise ConfigError(
            f"no array is given for {', '.join(missing)}", hint="Give all inputs, and all output gradients."
        )
    length = _length(net, arrays)
    forward, backward = {n: arrays[n] for n in net.inputs}, {n: arrays[n] for n in net.outputs}
    values: list[Named] = []
    gradients: list[Named] = []
    size = _batch_size(net)
    for batch, top_diffs in zip(batches(forward, size), batches(backward, size)):
        values.append(_copies(net.forward(blobs, None, None, **batch)))
        gradients.append(_copies(net.backward(diffs, None, None, **top_diffs)))
    return _joined(values, length, size), _joined(gradients, length, size)


def batches(arrays: Mapping[str, Any], size: int) -> Iterator[Named]:
    """Slices of `size` items of all arrays; the last is filled up with zeros."""
    hosts = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    for start in range(0, len(next(iter(hosts.values()))), size):
        parts = {name: values[start : start + size] for name, values in hosts.items()}
        yield {
            name: np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.float32)])
            if len(part) < size
            else part
            for name, part in parts.items()
        }


def _batch_size(net: Passes) -> int:
    return net.blobs[net.inputs[0]].shape[0]


def _length(net: Passes, arrays: Mapping[str, Any]) -> int:
    if not arrays or not net.inputs:
        raise ConfigError(
            "no input is given" if net.inputs else "the net has no inputs: its data layers bring the data",
            hint=f"Inputs: {', '.join(net.inputs)}." if net.inputs else "Call net.forward().",
        )
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise ShapeError(f"the arrays must have one length, at least 1; they have {lengths}")
    return next(iter(lengths.values()))


def _copies(arrays: Named) -> Named:
    return {name: np.array(values, ndmin=1) for name, values in arrays.items()}


def _joined(parts: list[Named], length: int, size: int) -> Named:
    """The batches in a row; what fills up the last one is cut off, also where an item has several rows.

    A scalar of each batch, and whatever else is not of so many rows an item, is kept whole.
    """
    padding = len(parts) * size - length
    joined = {}
    for name, last in parts[-1].items():
        rows, rest = divmod(len(last), size)
        whole = np.concatenate([part[name] for part in parts])
        joined[name] = whole if rest else whole[: len(whole) - rows * padding]
    return joined
