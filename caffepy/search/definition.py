"""A search as its file defines it, checked as far as it can be without the nets."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SearchedParameter, SearchParameter


class SearchDefinition(NamedTuple):
    """The message, and the file that it comes from, if any."""

    param: SearchParameter
    file: str = ""

    def place(self, field: str, i: int = 0) -> str:
        """`file:line:column` of a field; the file where it is not given."""
        return text.place_of(self.file, f"{field}[{i}]" if i else field) if self.file else ""

    @property
    def name(self) -> str:
        return self.param.name or Path(self.file).stem or "search"

    def error(self, field: str, message: str, hint: str = "", i: int = 0) -> ConfigError:
        return ConfigError(message, where=self.place(field, i), hint=hint)


def read(path: str | PathLike[str]) -> SearchDefinition:
    """The definition in a prototxt. Raises ConfigError with file and line."""
    path = fspath(path)
    return checked(SearchDefinition(text.read(path, SearchParameter()), path))


def checked(definition: SearchDefinition) -> SearchDefinition:
    """The same. Raises ConfigError for what no search can be."""
    p, error = definition.param, definition.error
    if not p.metric:
        raise error("metric", "metric is not set", 'It names an output of the test net: metric: "accuracy".')
    if not p.param:
        raise error("param", "there is no param to search for", 'Write param { path: "base_lr" log { ... } }.')
    for i, searched in enumerate(p.param):
        _check(searched, definition, i)
    if not p.trials and not p.seconds and p.sampler != SearchParameter.GRID:
        raise error("trials", "neither trials nor seconds is set", "Say when the search ends: trials: 40.")
    if p.jobs < 1:
        raise error("jobs", "jobs must be at least 1")
    if p.folds == 1:
        raise error("folds", "folds must be at least 2, or 0 for none")
    for field in ("stratify", "group"):
        if getattr(p, field) and not p.folds:
            raise error(field, f"{field} is given without folds")
    if p.pruner.factor < 2:
        raise error("pruner", "factor must be at least 2")
    return definition


def _check(searched: SearchedParameter, definition: SearchDefinition, i: int) -> None:
    def error(message: str, hint: str = "") -> ConfigError:
        return definition.error("param", message, hint, i)

    if not searched.path:
        raise error("path is not set", 'It is what --set takes: path: "base_lr".')
    kinds = [f for f in ("range", "log") if searched.HasField(f)] + ["choice"] * bool(searched.choice)  # type: ignore[arg-type]
    if len(kinds) != 1:
        raise error(
            f"{searched.path}: {' and '.join(kinds) or 'neither choice nor range nor log'} given, one is needed",
            "Write choice: ..., range { min: ... max: ... } or log { min: ... max: ... }.",
        )
    if searched.choice:
        if len(set(searched.choice)) < len(searched.choice):
            raise error(f"{searched.path}: a choice is given twice")
        return
    span = getattr(searched, kinds[0])
    if not span.HasField("min") or not span.HasField("max"):
        raise error(f"{searched.path}: {kinds[0]} needs min and max")
    if not span.min < span.max:
        raise error(f"{searched.path}: the range from {span.min:g} to {span.max:g} is empty", "min is below max.")
    if kinds[0] == "log" and span.min <= 0:
        raise error(f"{searched.path}: log needs a min above 0, got {span.min:g}")
    if span.HasField("step") and (kinds[0] == "log" or not 0 < span.step <= span.max - span.min):
        raise error(f"{searched.path}: step must lie between 0 and max - min, and has no meaning with log")
    if definition.param.sampler == SearchParameter.GRID and not span.step and span.steps < 2:
        raise error(
            f"{searched.path}: GRID cannot go through every number of a range",
            "Give choices, or the number of values: steps: 5.",
        )


def from_fields(fields: Mapping[str, Any]) -> SearchDefinition:
    """A definition from Python: fields by name; `param` maps paths to choices, or to fields of `SearchedParameter`."""
    given = dict(fields)
    spaces = given.pop("param", {})
    pruner, sampler, mode = (given.pop(name, None) for name in ("pruner", "sampler", "mode"))
    try:
        param = SearchParameter(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"this is no search: {error}") from None
    words = {"sampler": sampler, "mode": mode}
    lines = [f"{name}: {word}" for name, word in words.items() if word is not None]
    if pruner is not None:
        lines.append(f"pruner {{ type: {pruner} }}" if isinstance(pruner, str) else f"pruner {{ {pruner} }}")
    text.parse("\n".join(lines), param, "the search's fields")
    for path, space in spaces.items():
        _add(param, path, space)
    return checked(SearchDefinition(param))


def _add(param: SearchParameter, path: str, space: Any) -> None:
    if isinstance(space, Mapping):
        try:
            param.param.add(path=path, **space)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}: {error}", hint='Write a list of choices, or {"log": {"min": 1e-4, "max": 1}}.'
            ) from None
    else:
        values = [str(value).lower() if isinstance(value, bool) else str(value) for value in space]
        param.param.add(path=path, choice=values)
