"""Image lists: a line each, the path of a picture, a blank, tab or comma, its label."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from os import PathLike
from typing import NamedTuple

from caffepy.errors import DataError
from caffepy.files import near_names, read_text

log = logging.getLogger(__name__)

_INTEGER = re.compile(r"[+-]?\d+")
_LINE = "Each line is a path, a blank and an integer label."


class ListEntry(NamedTuple):
    """A line of a list."""

    name: str
    label: int
    line: int
    """Counted from 1, for messages."""


def lines_of(source: str) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not empty, counted from 1."""
    try:
        text = read_text(source, "utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read the list of images: {error.strerror}", where=source, hint=near_names(source)
        ) from None
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def read_list(path: str | PathLike[str]) -> list[ListEntry]:
    """The entries of a list. Split at the last blank, tab or comma: names may have some; empty lines are passed over.

    A label is an integer; what follows its digits is ignored, as Caffe does. Raises DataError with the line number.
    """
    source = str(path)
    entries = []
    for number, line in lines_of(source):
        name, label = _parted(line.rstrip())
        found = _INTEGER.match(label)
        if not name or not found:
            raise DataError(
                f'no label at the end of "{line.strip()}"',
                where=f"{source}:{number}",
                hint=_LINE,
            )
        entries.append(ListEntry(name, _whole(label, int(found[0]), f"{source}:{number}"), number))
    if not entries:
        raise DataError("the list of images is empty", where=source, hint=_LINE)
    return entries


def _parted(line: str) -> tuple[str, str]:
    """What stands before the last blank, tab or comma, and behind it; a comma may have blanks around it."""
    cut = max(map(line.rfind, " \t,"))
    name = line[:cut].rstrip(" \t") if cut > 0 else ""
    if name.endswith(",") and line[cut] != ",":
        name = name[:-1].rstrip(" \t")
    return name, line[cut + 1 :]


def _whole(text: str, label: int, where: str) -> int:
    """The label, if a record can hold it; what follows its digits is ignored, as Caffe does, with a warning."""
    if not -(2**31) <= label < 2**31:
        raise DataError(f"the label {label} has more than 32 bits", where=where, hint=_LINE)
    if text.lstrip("+-").lstrip("0123456789"):
        log.warning('%s: the label "%s" counts as %d: labels are integers', where, text, label)
    return label


def missing_slash(root: str, name: str) -> str:
    """The remedy where a picture would be found if the folder in front of its name ended with a slash."""
    if root and not root.endswith("/") and os.path.exists(os.path.join(root, name)):
        return f'The folder is put in front as it stands: end it with a slash, "{root}/".'
    return ""
