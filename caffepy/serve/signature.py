"""What a model takes and gives: names, shapes, and arrays brought into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffepy.errors import did_you_mean
from caffepy.serve.ids import EXACT, Span
from caffepy.serve.refusal import invalid

Arrays = dict[str, np.ndarray]
NAMES = ("", "serving_default", "predict", "classify", "regress")
"""Signatures that every model has, as far as its outputs allow; one and the same net is behind them."""


FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Tensor:
    """An input or output: float32, or what an ONNX file has."""

    name: str
    blob: str
    shape: tuple[int, ...]
    """-1 for an axis of any length; the first counts items where the model takes batches."""
    dtype: np.dtype = FLOAT
    span: Span | None = None
    """Of ids: the least and the largest."""
    words: bool = False
    """Whether it is given words, or numbers that stand for such, in place of ids."""


@dataclass(frozen=True)
class Signature:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool
    """Whether the first axis of all inputs and outputs counts items, of which there may be any number."""

    def feeds(self, given: Mapping[str, np.ndarray]) -> Arrays:
        """The arrays in the tensors' types, by blob. Raises Refused for names, shapes and values that do not fit."""
        if len(given) != len(self.inputs) or any(tensor.name not in given for tensor in self.inputs):
            self._refuse_names(given)
        return {tensor.blob: _fit(tensor, given[tensor.name]) for tensor in self.inputs}

    def wanted(self, names: Iterable[str]) -> tuple[Tensor, ...]:
        """The outputs of these names; all of them where there are none."""
        known = {tensor.name: tensor for tensor in self.outputs}
        wanted = tuple(names)
        for name in wanted:
            if name not in known:
                raise invalid(
                    f'the model has no output "{name}"',
                    did_you_mean(name, known) or f"Its outputs are: {', '.join(known)}.",
                )
        return tuple(known[name] for name in wanted) or self.outputs

    def items(self, feeds: Arrays) -> int:
        """How many items a request has."""
        if not self.batched:
            return 1
        lengths = {len(values) for values in feeds.values()}
        if len(lengths) != 1 or 0 in lengths:
            found = {name: len(values) for name, values in feeds.items()}
            raise invalid(f"all inputs must have one number of items, at least 1; they have {found}")
        return lengths.pop()

    def check_name(self, name: str) -> None:
        if name not in NAMES:
            raise invalid(f'Serving signature key "{name}" not found.', did_you_mean(name, NAMES))

    def _refuse_names(self, given: Mapping[str, Any]) -> None:
        known = [tensor.name for tensor in self.inputs]
        for name in given:
            if name not in known:
                raise invalid(
                    f'the model has no input "{name}"',
                    did_you_mean(name, known) or f"Its inputs are: {', '.join(known)}.",
                )
        missing = [name for name in known if name not in given]
        raise invalid(f"nothing is given for the input {', '.join(missing)}")


def _fit(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """The array in the tensor's type and shape; axes of length 1 may be missing or too many."""
    if tensor.span is not None:
        _check_ids(tensor, values)
    if values.dtype != tensor.dtype:
        values = _converted(tensor, values)
    shape, wanted = values.shape, tensor.shape
    if len(shape) == len(wanted) and all(b in (-1, a) for a, b in zip(shape, wanted)):
        return values
    items = 1 if wanted[:1] == (-1,) else 0
    if -1 not in wanted[items:] and values.ndim >= items:
        found = tuple(n for n in shape[items:] if n != 1)
        if found == tuple(n for n in wanted[items:] if n != 1):
            return values.reshape(*shape[:items], *wanted[items:])
    raise invalid(f'the input "{tensor.name}" has shape {tensor.shape} (-1: any), got {shape}')


def _check_ids(tensor: Tensor, values: np.ndarray) -> None:
    least, largest = tensor.span or (0, 0)
    if values.dtype.kind not in "fiub" or not values.size:
        return
    low, high = values.min(), values.max()
    if not (least <= low and high <= largest):  # which NaN is not, either
        found = low if least > low else high
        hint = f"float32, in which the net takes them, holds whole numbers up to {EXACT}." if high > EXACT else ""
        raise invalid(f'the input "{tensor.name}" takes ids from {least} to {largest}, got {found}', hint)


def _converted(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """In the tensor's type; whole numbers and truth values must be so exactly."""
    if values.dtype.kind not in "fiub":
        raise invalid(f'the input "{tensor.name}" takes numbers ({tensor.dtype}), got {_kind(values)}')
    with np.errstate(over="ignore", invalid="ignore"):
        found = values.astype(tensor.dtype)
    if tensor.dtype.kind in "iub" and not (found == values).all():
        raise invalid(f'the input "{tensor.name}" takes {tensor.dtype}, which does not hold all of the values given')
    return found


def _kind(values: np.ndarray) -> str:
    return "bytes, and the model has no transform for pictures" if values.dtype == object else str(values.dtype)
