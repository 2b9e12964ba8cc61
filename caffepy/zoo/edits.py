"""Definitions changed as text, so that their comments and lines stay."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter

_FIELD = r"""(\b{}\s*:\s*)("[^"]*"|'[^']*'|[^\s{{}}"']+)"""
_MESSAGE = r"{}\s*\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}"


class Block(NamedTuple):
    """A layer of a definition, as text and as read."""

    text: str
    layer: LayerParameter


def blocks(definition: str) -> tuple[str, list[Block]]:
    """What stands before the first layer, and the layers with what follows each."""
    lines = [0, *(found.end() for found in re.finditer("\n", definition))]
    starts = [lines[place.line - 1] + place.column - 1 for place in text.layer_places(definition)]
    parts = [definition[start:end] for start, end in zip(starts, [*starts[1:], len(definition)])]
    return definition[: (starts or [len(definition)])[0]], [
        Block(part, text.parse(part, NetParameter()).layer[0]) for part in parts
    ]


def edit(definition: str, change: Callable[[Block], str]) -> str:
    """The definition with every layer changed."""
    head, layers = blocks(definition)
    return head + "".join(change(block) for block in layers)


def values(part: str, field: str, change: Callable[[str], str], count: int = 0) -> str:
    """`part` with each value of `field`, or the first `count`, changed: a number, a word, or a string in its quotes."""
    return re.sub(_FIELD.format(field), lambda found: found[1] + change(found[2]), part, count=count)


def put(part: str, field: str, value: str, count: int = 0) -> str:
    """`part` with all values of `field`, or the first `count`, replaced."""
    return values(part, field, lambda old: value, count)


def replace(part: str, field: str, by: str) -> str:
    """`part` with other text in the place of each `field: value`."""
    return re.sub(_FIELD.format(field), lambda found: by, part)


def without_fields(part: str, field: str) -> str:
    """`part` without what it says of `field`."""
    return re.sub(r"(?:\n[ \t]*|[ \t]+)" + _FIELD.format(field), "", part)


def without_comments(part: str) -> str:
    """`part` without lines that are comments."""
    return re.sub(r"^[ \t]*#.*\n", "", part, flags=re.MULTILINE)


def lines_put(solver: str, fields: dict[str, str]) -> str:
    """A solver with these fields: replaced where they stand, else added at the end."""
    for field, value in fields.items():
        if re.search(_FIELD.format(field), without_comments(solver)):
            solver = put(solver, field, value, count=1)
        else:
            solver = f"{solver.rstrip()}\n{field}: {value}\n"
    return solver


def without_messages(part: str, field: str) -> str:
    """`part` without its messages `field { ... }`."""
    return re.sub(rf"[ \t]*\b{_MESSAGE.format(field)}[ \t]*\n?", "", part)


def with_lines(part: str, lines: list[str]) -> str:
    """A layer with lines added at its end."""
    end = part.rindex("}")
    before = part[:end].rstrip()
    return before + "".join(f"\n  {line}" for line in lines) + "\n" + part[end:]


def quoted(value: str) -> str:
    """As prototxt has a string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
