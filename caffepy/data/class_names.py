"""Names of classes: `labels.txt`, a line each, the first is class 0."""

from __future__ import annotations

from os import PathLike

from caffepy.errors import DataError
from caffepy.files import near_names, read_text


def read(path: str | PathLike[str], classes: int | None = None) -> list[str]:
    """The names in a file. Raises DataError where there are not `classes` of them, or one is there twice."""
    try:
        names = [line.strip() for line in read_text(path).splitlines()]
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=str(path), hint=near_names(path)) from None
    while names and not names[-1]:
        names.pop()
    first: dict[str, int] = {}
    for line, name in enumerate(names, start=1):
        if first.setdefault(name, line) != line:
            raise DataError(
                f'the class "{name}" is that of line {first[name]} already' if name else "a name is empty",
                where=f"{path}:{line}",
                hint="Give each class a line and a name of its own.",
            )
    if classes is not None and len(names) != classes:
        raise DataError(
            f"{len(names)} names for {classes} classes", where=str(path), hint="Give one line for each class, in order."
        )
    return names
