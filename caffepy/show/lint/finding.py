"""What is found in a definition."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from caffepy.errors import CaffeError

ERROR, WARNING, ABSENT, NOTE = LEVELS = ("error", "warning", "absent", "note")
"""It cannot train or run; it does what nobody can want; it needs what is not on this machine; what is good to know."""

_PLACE = re.compile(r"(?P<file>.*?):(?P<line>\d+):(?P<column>\d+)(?:: (?P<rest>.*))?", re.DOTALL)
_LAYER = re.compile(r'layer "([^"]*)"(?:: )?')


class Finding(NamedTuple):
    """One thing that was found, where it is, and what to do about it."""

    level: str
    rule: str
    message: str
    remedy: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    layer: str = ""
    states: tuple[str, ...] = ()
    """The states of the net in which it holds; none: all that were built, or it is not about states."""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def text(self) -> str:
        """The message, with the layer and the states that it is about."""
        states = f" ({'; '.join(self.states)})" if self.states else ""
        return f'layer "{self.layer}": {self.message}{states}' if self.layer else f"{self.message}{states}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: fields that say nothing are null."""
        return {name: value if value or value == [] else None for name, value in self._asdict().items()}


def of_error(error: CaffeError, rule: str, file: str, level: str = ERROR) -> Finding:
    """An error as a finding; its place is taken apart. `file` is where it is not said."""
    where, line, column, rest = error.where, 0, 0, ""
    if found := _PLACE.fullmatch(where):
        where, line, column, rest = found["file"], int(found["line"]), int(found["column"]), found["rest"] or ""
    elif where != file:
        where, rest = file, where
    layer = _LAYER.match(rest)
    rest = rest[layer.end() :] if layer else rest
    message = f"{rest}: {error.message}" if rest else error.message
    return Finding(level, rule, message, error.hint, where or file, line, column, layer[1] if layer else "")
