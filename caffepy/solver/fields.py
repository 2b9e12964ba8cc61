"""What a value that was read from a file must look like: small checks, put together as the value is.

A check is called with the value and its place in the file, and raises Malformed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Check = Callable[[Any, str], None]

LARGEST = 2**63 - 1
_TWISTER = 624
"""Words of the state of MT19937."""


class Malformed(ValueError):
    """A value is not what it must be; says where and what."""


def anything(value: Any, place: str) -> None:
    pass


def integer(least: int = 0, most: int = LARGEST) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not int or not least <= value <= most:
            raise Malformed(f"{place} is no whole number from {least} to {most}: {_brief(value)}")

    return check


def number(value: Any, place: str) -> None:
    if type(value) not in (int, float):
        raise Malformed(f"{place} is no number: {_brief(value)}")


def text(value: Any, place: str) -> None:
    if not isinstance(value, str):
        raise Malformed(f"{place} is no text: {_brief(value)}")


def maybe(inner: Check) -> Check:
    """null, or what `inner` allows."""
    return lambda value, place: None if value is None else inner(value, place)


def array(shape: tuple[int, ...], dtype: Any) -> Check:
    def check(value: Any, place: str) -> None:
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
            raise Malformed(f"{place} is no array of shape {shape} and type {np.dtype(dtype)}: {_brief(value)}")

    return check


def sequence(of: Check) -> Check:
    """A list of any length."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            raise Malformed(f"{place} is no list: {_brief(value)}")
        for i, item in enumerate(value):
            of(item, f"{place}[{i}]")

    return check


def row(*of: Check) -> Check:
    """A list of as many values as there are checks."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list) or len(value) != len(of):
            raise Malformed(f"{place} is no list of {len(of)}: {_brief(value)}")
        for i, (inner, item) in enumerate(zip(of, value)):
            inner(item, f"{place}[{i}]")

    return check


def mapping(of: Check) -> Check:
    """Values of one kind by any names."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{place} is no mapping: {_brief(value)}")
        for name, item in value.items():
            of(item, f"{place}.{name}")

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, more: bool = False) -> Check:
    """Values by the names of fields; with `more`, others may stand beside them."""

    def check(value: Any, place: str) -> None:
        mapping(anything)(value, place)
        known = {**required, **(optional or {})}
        if missing := sorted(required.keys() - value.keys()):
            raise Malformed(f"{place} has no {missing[0]}")
        if not more and (unknown := sorted(value.keys() - known.keys())):
            raise Malformed(f"{place} has an unknown field {_brief(unknown[0])}")
        for name in known.keys() & value.keys():
            known[name](value[name], f"{place}.{name}")

    return check


def generator(value: Any, place: str) -> None:
    """The state of an MT19937, which numpy takes as it is and follows wherever its position points."""
    record(
        {
            "bit_generator": _word("MT19937"),
            "state": record({"key": array((_TWISTER,), np.uint32), "pos": integer(0, _TWISTER)}),
        }
    )(value, place)


def like(example: Any) -> Check:
    """What is built as `example` is: the same names, lengths, types and shapes; whole numbers are no less than 0."""
    if isinstance(example, dict):
        if "bit_generator" in example:
            return generator
        return record({name: like(value) for name, value in example.items()})
    if isinstance(example, (list, tuple)):
        return row(*map(like, example))
    if isinstance(example, np.ndarray):
        return array(example.shape, example.dtype)
    if example is None:
        return _nothing
    if isinstance(example, (int, np.integer)) and not isinstance(example, bool):
        return integer()
    return number if isinstance(example, (float, np.floating)) else _word(example)


def _nothing(value: Any, place: str) -> None:
    if value is not None:
        raise Malformed(f"{place} is not empty: {_brief(value)}")


def _word(expected: Any) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not type(expected) or (isinstance(expected, str) and value != expected):
            raise Malformed(f"{place} is not {expected!r}: {_brief(value)}")

    return check


def _brief(value: Any) -> str:
    text = f"an array {value.shape} of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
