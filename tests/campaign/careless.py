"""Programs that lose what they should keep: the campaign must find them out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from tests.campaign.programs import OLD, Command


class Careless(NamedTuple):
    """Writes over its file in place, or says a failure with status 0, or without a word, or with a traceback."""

    way: str
    again: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.way

    def prepare(self) -> None:
        Path("made").write_bytes(OLD)

    def run(self, *arguments: str) -> None:
        if self.way == "in place":
            try:
                Path("made").write_bytes(b"new content")
            except OSError as error:
                sys.exit(print(f"error: {error}") or 1)
        elif self.way == "well":
            try:
                Path("next").write_bytes(b"new content")
                Path("next").rename("made")
            except OSError:
                sys.exit(0)
        elif self.way == "silent":
            try:
                Path("next").write_bytes(b"new content")
            except OSError:
                sys.exit(1)
            Path("next").rename("made")
        else:
            Path("next").write_bytes(b"new content")
            Path("next").rename("made")

    def result(self) -> dict[str, bytes]:
        return {"made": Path("made").read_bytes()}

    check = Command.check
