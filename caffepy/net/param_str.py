"""`param_str`: the parameters of a layer of one's own, YAML or JSON, read as its class declares them.

    @caffepy.register_layer("Leaky")
    class Leaky(Layer):
        slope: float = 0.1
        mode: Literal["mild", "wild"] = "mild"

With `param_str: "slope: 0.2"` in the definition such a layer has a `slope` of 0.2 and the `mode` "mild".
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from caffepy.errors import ConfigError, described, did_you_mean

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
_TRUTH = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_NUMBERS = {".inf": "inf", "-.inf": "-inf", ".nan": "nan"}  # as YAML writes them


def declared(cls: type) -> dict[str, Any]:
    """Name to type of the parameters: a class's annotations but for ClassVar and `_names`, and those of its bases.

    Those of caffepy's own classes are not meant: their parameters are in the schema.
    """
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is object or base.__module__.startswith("caffepy."):
            continue
        try:
            annotations = inspect.get_annotations(base, eval_str=True)
        except Exception as error:
            raise ConfigError(
                f"the annotations of {base.__qualname__} cannot be read: {described(error)}",
                hint="Import what they name at the top of the module.",
            ) from None
        for name, kind in annotations.items():
            if not name.startswith("_") and kind is not ClassVar and get_origin(kind) is not ClassVar:
                found[name] = kind
    return found


def read(cls: type, text: str, taken: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters that a text gives to a class; none may have a name that is `taken`.

    Raises ConfigError with line and column in the text for names that the class does not declare and for values of
    another type, and where one without a default is missing.
    """
    kinds = declared(cls)
    for name in set(kinds).intersection(taken):
        raise ConfigError(
            f'{cls.__name__} declares a parameter "{name}", a name that all layers use',
            hint="If it is no parameter, leave out the annotation.",
        )
    given = _mapping(text, kinds, cls) if text.strip() else {}
    for name, kind in kinds.items():
        if name not in given and not hasattr(cls, name):
            raise ConfigError(f'"{name}" is not set', hint=f'It takes {_word(kind)}: param_str: "{name}: ...".')
    return given


def write(values: Mapping[str, Any]) -> str:
    """The text that gives these values."""
    return json.dumps(values, default=lambda value: value.tolist())  # NumPy's


def _mapping(text: str, kinds: dict[str, Any], cls: type) -> dict[str, Any]:
    if not kinds:
        raise ConfigError(f"param_str is given, but {cls.__name__} declares no parameters")
    node = _parse(text)
    if node is None:  # comments alone
        return {}
    if not node.tag.endswith(":map"):
        raise _error(node, "names and values are expected", f"For example: {next(iter(kinds))}: ...")
    given: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in kinds:
            hint = did_you_mean(name, kinds) or f"It has: {', '.join(kinds)}."
            raise _error(key, f'{cls.__name__} has no parameter "{name}"', hint)
        if name in given:
            raise _error(key, f'"{name}" is given twice')
        given[name] = _value(value, kinds[name], name)
    return given


def _parse(text: str) -> Any:
    """The text as a tree of YAML nodes, which know their places."""
    import yaml

    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented so, YAML not
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"param_str:{mark.line + 1}:{mark.column + 1}" if mark else "param_str"
        raise ConfigError(f"this is neither YAML nor JSON: {error.problem}", where=where) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"this is neither YAML nor JSON: {error}", where="param_str") from None


def _value(node: Any, kind: Any, name: str) -> Any:
    """The value of a node as the type says. Only what a type names is looked into: a text cannot nest without end."""
    origin, inner = get_origin(kind), get_args(kind)
    try:
        if kind in _WORDS:
            return _scalar(node, kind)
        if origin is Literal:
            return {o if isinstance(o, str) else json.dumps(o): o for o in inner}[node.value]
        if origin in (list, tuple) and node.tag.endswith(":seq"):
            kinds = inner[:1] * len(node.value) if origin is list or inner[1:] == (...,) else inner
            if len(kinds) == len(node.value):
                return origin(_value(item, kind, name) for item, kind in zip(node.value, kinds))
        if origin is dict and node.tag.endswith(":map"):
            return {_value(k, inner[0], name): _value(v, inner[1], name) for k, v in node.value}
    except (ValueError, KeyError, TypeError):  # TypeError: a list has no hash
        pass
    if origin in (Union, UnionType):
        for one in inner:
            try:
                return _value(node, one, name)
            except ConfigError:
                continue
    raise _error(node, f'"{name}" takes {_word(kind)}, got {_shown(node)}', _nearest(node, kind))


def _scalar(node: Any, kind: type) -> Any:
    """Raises ValueError or KeyError for other scalars, and for no scalars."""
    if not isinstance(node.value, str) or (kind is not str and node.style is not None):
        raise ValueError
    if kind is bool:
        return _TRUTH[node.value.lower()]
    if kind is NoneType:
        return {"": None, "~": None, "null": None}[node.value.lower()]
    return kind(_NUMBERS.get(node.value.lower(), node.value) if kind is float else node.value)


def _word(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(json.dumps, inner))
    if origin in (Union, UnionType):
        return " or ".join(map(_word, inner))
    if origin in (list, tuple):
        several = origin is list or inner[1:] == (...,)
        return f"a list, each {_word(inner[0])}" if several else f"a list of {len(inner)}"
    if origin is dict:
        return f"names and values, each {_word(inner[1])}"
    if kind not in _WORDS:
        raise ConfigError(
            f"{getattr(kind, '__name__', kind)} is no type of a parameter",
            hint="Types are bool, int, float, str, None, Literal, list, tuple, dict, and A | B.",
        )
    return _WORDS[kind]


def _shown(node: Any) -> str:
    if isinstance(node.value, str):
        return json.dumps(node.value) if node.style else node.value or "nothing"
    return "a list" if node.tag.endswith(":seq") else "names and values"


def _nearest(node: Any, kind: Any) -> str:
    if get_origin(kind) is not Literal or not isinstance(node.value, str):
        return "Write it without quotes." if getattr(node, "style", None) and kind in (bool, int, float) else ""
    return did_you_mean(node.value, [o for o in get_args(kind) if isinstance(o, str)])


def _error(node: Any, message: str, hint: str = "") -> ConfigError:
    mark = node.start_mark
    return ConfigError(message, where=f"param_str:{mark.line + 1}:{mark.column + 1}", hint=hint)
