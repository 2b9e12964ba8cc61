"""The space of a search: what may be proposed for each path, and what the definition itself has there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from caffepy.errors import CaffeError, ConfigError
from caffepy.proto.caffe_pb2 import SearchedParameter, SearchRange
from caffepy.proto.paths import Target
from caffepy.proto.settings import OF_NET, Setting
from caffepy.search.definition import SearchDefinition
from caffepy.search.model import Model

_WHOLE = {getattr(FieldDescriptor, f"CPPTYPE_{name}") for name in ("INT32", "INT64", "UINT32", "UINT64")}
_NUMBERS = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}

Value = str | int | float


class Dimension(NamedTuple):
    """A path, what it may be set to, and its value in the definition as it stands (None: several, or not allowed)."""

    spec: SearchedParameter
    where: str
    whole: bool
    standing: Value | None

    @property
    def path(self) -> str:
        return self.spec.path

    @property
    def span(self) -> SearchRange:
        return self.spec.log if self.spec.HasField("log") else self.spec.range

    def suggest(self, trial: Any) -> Value:
        """What an Optuna trial proposes; what it has proposed before, where it has."""
        if self.spec.choice:
            return trial.suggest_categorical(self.path, list(self.spec.choice))
        span, log = self.span, self.spec.HasField("log")
        if self.whole:
            return trial.suggest_int(self.path, int(span.min), int(span.max), step=int(span.step) or 1, log=log)
        return trial.suggest_float(self.path, span.min, span.max, step=span.step or None, log=log)

    def values(self) -> list[Value]:
        """The values on a grid."""
        if self.spec.choice:
            return list(self.spec.choice)
        span = self.span
        if self.spec.HasField("log"):
            found: Any = np.geomspace(span.min, span.max, span.steps)
        elif span.steps:
            found = np.linspace(span.min, span.max, span.steps)
        else:
            found = span.min + span.step * np.arange(math.floor((span.max - span.min) / span.step + 1e-9) + 1)
        found = np.clip(found, span.min, span.max)
        return list(dict.fromkeys(round(x) for x in found)) if self.whole else found.tolist()

    def at(self, u: float) -> Value:
        """The value that a share `u` in [0, 1) of the space lies below."""
        if self.spec.choice or self.span.step:
            values = self.values()
            return values[int(u * len(values))]
        span, wider = self.span, 1 if self.whole else 0
        if self.spec.HasField("log"):
            found = span.min * ((span.max + wider) / span.min) ** u
        else:
            found = span.min + (span.max + wider - span.min) * u
        return int(found) if self.whole else min(found, span.max)

    def setting(self, value: Value) -> Setting:
        return Setting(self.path, shown(value), self.where)


def shown(value: Value) -> str:
    """As a prototxt has it."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def build(definition: SearchDefinition, model: Model) -> list[Dimension]:
    """The parameters of a search of this model. Raises ConfigError with file and line."""
    out: list[Dimension] = []
    owner: dict[str, int] = {}
    for i, spec in enumerate(definition.param.param):
        where = definition.place("param", i)
        targets = model.find(Setting(spec.path, "", where))
        for name in (OF_NET * spec.path.startswith(OF_NET) + target.name for target in targets):
            if (first := owner.setdefault(name, i)) != i:
                other = definition.param.param[first].path
                raise ConfigError(
                    f'two parameters are on one path: "{other}" and "{spec.path}" both set {name}', where=where
                )
        try:
            out.append(_parameter(spec, where, targets))
        except CaffeError as error:
            raise error if error.where else error.at(where) from None
    return out


def _parameter(spec: SearchedParameter, where: str, targets: list[Target]) -> Dimension:
    target = targets[0]
    kind = target.field.cpp_type
    for choice in spec.choice:
        target.parse(choice)
    if not spec.choice and (kind not in _WHOLE | _NUMBERS or target.is_list):
        raise ConfigError(f"{spec.path} is no number, a range needs one", hint="Give choices.")
    whole = not spec.choice and kind in _WHOLE
    parameter = Dimension(spec, where, whole, None)
    if not spec.choice:
        span = parameter.span
        for end in (span.min, span.max, span.step):
            if whole and end != int(end):
                raise ConfigError(f"{spec.path} takes whole numbers, got {end:g}")
            target.parse(str(int(end)) if whole else repr(end))
    return parameter._replace(standing=_standing(parameter, targets))


def _standing(parameter: Dimension, targets: Iterable[Target]) -> Value | None:
    """The value in the definition, if it is one, and one that may be proposed."""
    found = {target.shown() for target in targets}
    if len(found) != 1:
        return None
    target = next(iter(targets))
    if parameter.spec.choice:
        return next((c for c in parameter.spec.choice if target.parse(c) == target.value), None)
    span, value = parameter.span, int(target.value) if parameter.whole else float(target.shown())
    if not span.min <= value <= span.max:
        return None
    off = (value - span.min) / span.step if span.step else 0.0
    return value if abs(off - round(off)) < 1e-6 else None


def grid(parameters: list[Dimension]) -> list[dict[str, Value]]:
    """Each combination of the parameters' values, the last parameter changing first."""
    names = [parameter.path for parameter in parameters]
    return [dict(zip(names, values)) for values in product(*(parameter.values() for parameter in parameters))]
