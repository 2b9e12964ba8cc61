"""Graph: ONNX operators and constants while a net is being exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
"""ONNX's numbers of element types."""


@dataclass
class Operator:
    """One call of a standard operator."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""


class OnnxGraph:
    """Operators in the order in which they run, and constants, all under names of their own."""

    def __init__(self, opset: int):
        self.opset = opset
        self.operators: list[Operator] = []
        self.constants: dict[str, np.ndarray] = {}
        self.layer = ""
        """The layer that is being written: names that nobody gives begin with it."""
        self._count = 0

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The only output of an operator; "" stands for an input that is left out."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """The `count` outputs of an operator."""
        outputs = [self._name(kind) for _ in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.operators.append(Operator(kind, list(inputs), outputs, given, outputs[0]))
        return outputs

    def constant(self, values: Any, dtype: Any = np.float32, name: str = "") -> str:
        """The name of an array, stored once under `name` or a new one."""
        name = name or self._name("constant")
        self.constants[name] = np.asarray(values, dtype, order="C")
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def rename(self, old: str, new: str) -> None:
        """Call a value otherwise wherever it stands."""
        for operator in self.operators:
            operator.inputs = [new if name == old else name for name in operator.inputs]
            operator.outputs = [new if name == old else name for name in operator.outputs]
        if old in self.constants:
            self.constants[new] = self.constants.pop(old)

    def makes(self, name: str, since: int) -> bool:
        """Whether an operator from number `since` on has this output."""
        return any(name in operator.outputs for operator in self.operators[since:])

    # What several layers need

    def reshape(self, x: str, dims: Sequence[int | None]) -> str:
        """x in another shape; None stands for the one axis that depends on the batch."""
        return self.op("Reshape", x, self.ints(*(-1 if dim is None else dim for dim in dims)))

    def reduce(self, kind: str, x: str, axes: Sequence[int], keep: bool = True) -> str:
        """ReduceSum and the like, whose axes are an input from opset 18 on (ReduceSum: 13)."""
        since = 13 if kind == "ReduceSum" else 18
        if self.opset >= since:
            return self.op(kind, x, self.ints(*axes), keepdims=int(keep))
        return self.op(kind, x, axes=list(axes), keepdims=int(keep))

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self.layer}/{kind}_{self._count}" if self.layer else f"{kind}_{self._count}"
