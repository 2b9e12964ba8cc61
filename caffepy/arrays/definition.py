"""The solver definition that stands behind what `fit` is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter

SolverLike = str | PathLike[str] | SolverParameter | Mapping[str, Any]

DEFAULT_SOLVER = {"type": "Adam", "base_lr": 0.001, "momentum": 0.9, "lr_policy": "fixed"}


def solver_parameter(solver: SolverLike | None) -> SolverParameter:
    """The message that a path, a message or a dict of fields stands for. Raises ConfigError for unknown fields."""
    if isinstance(solver, (str, PathLike)):
        return text.read_solver(solver)
    param = SolverParameter()
    if isinstance(solver, SolverParameter):
        param.CopyFrom(solver)
        return param
    given = DEFAULT_SOLVER if solver is None else {"lr_policy": "fixed", **solver}
    # Through the text format, so that a wrong name or value is reported as in a file.
    lines = (f"{name}: {_literal(name, value)}" for name, values in given.items() for value in _as_list(values))
    return text.parse("\n".join(lines), param, "the solver's fields")


def _as_list(values: Any) -> Iterable[Any]:
    return values if isinstance(values, (list, tuple)) else [values]


def _literal(name: str, value: Any) -> str:
    """The value as the text format has it; names of an enum without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    described = SolverParameter.DESCRIPTOR.fields_by_name.get(name)
    if not isinstance(value, str) or (described is not None and described.enum_type is not None):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
