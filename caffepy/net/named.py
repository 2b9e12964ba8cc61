"""Dictionaries whose errors list what exists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from caffepy.errors import ConfigError, did_you_mean

V = TypeVar("V")

_MOST_NAMES = 20


class UnknownNameError(ConfigError, KeyError):
    """A layer or blob that the net does not have; a KeyError, too, as pycaffe's scripts expect."""


class Named(dict[str, V]):
    """An ordered dictionary of a net's layers or blobs (`kind` says which)."""

    def __init__(self, kind: str, *args):
        super().__init__(*args)
        self.kind = kind

    def __missing__(self, name: object) -> NoReturn:
        raise unknown(self.kind, name, self)


def listed(names: Any) -> list[Any]:
    """The names of blobs that an argument gives: one, or several, or None for none."""
    if names is None:
        return []
    return list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]


def unknown(kind: str, name: object, known) -> UnknownNameError:
    """The error that there is no `kind` of this name, with the nearest that there is, or all."""
    names = [str(n) for n in known]
    some = ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
    hint = did_you_mean(str(name), names) or (f"There are: {some}." if names else f"There is no {kind} at all.")
    return UnknownNameError(f'the net has no {kind} "{name}"', hint=hint)
