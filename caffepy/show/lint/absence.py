"""Findings about data and code that are not on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.show.draft import Sources
from caffepy.show.draft.sources import Absent, Assumed
from caffepy.show.lint.finding import ABSENT, Finding, of_error
from caffepy.show.lint.paths import elsewhere


def of_absent(sources: Sources, definition: text.Definition, file: str, kept: set[str]) -> Iterator[Finding]:
    """What layers need that is not here, and with which shapes the net was built all the same."""
    for absent, assumed in sources.absent.items():
        if absent.layer in kept:
            yield _of(absent, assumed, definition, file)


def _of(absent: Absent, assumed: Assumed | None, definition: text.Definition, file: str) -> Finding:
    remedy = elsewhere(absent.path, file) if absent.path else _beside(definition, absent, file)
    if assumed and absent.field in ("source", "module"):
        remedy = f"{remedy}\n{_told(assumed)}" if remedy else _told(assumed)
    verb = "is not on the Python path" if absent.field == "module" else "does not exist"
    finding = Finding(ABSENT, f"{absent.field.replace('_', '-')}-is-absent", f"{absent.what} {verb}", remedy, file)
    return _placed(finding, absent, definition)


def _placed(finding: Finding, absent: Absent, definition: text.Definition) -> Finding:
    """At the field that names it, in the first layer of that name that names this."""
    finding = finding._replace(layer=absent.layer)
    for where in definition.places.get(absent.layer, ()):
        at = of_error(CaffeError("", where=where), finding.rule, finding.file)
        finding = finding._replace(file=at.file, line=at.line, column=at.column)
        source = text.read_text(at.file)
        place = text.field_place(source, absent.field, at.line, at.column)
        if place and (not absent.path or absent.path in source.splitlines()[place[0] - 1]):
            return finding._replace(line=place[0], column=place[1])
    return finding


def _told(assumed: Assumed) -> str:
    sizes = ["x".join(map(str, shape)) if shape is not None else "?" for shape in assumed.shapes]
    shapes = ", ".join(f"{top} {size or 'scalar'}" for top, size in zip(assumed.tops, sizes))
    if not assumed.by:
        return f"Built with a guess, {shapes}: give what it is with --shape {assumed.tops[0]}=N,C,H,W."
    return f"Built with {shapes}, as told by {assumed.by}."


def _beside(definition: text.Definition, absent: Absent, file: str) -> str:
    """Where the module of a Python layer is, if it lies near the definition."""
    name = absent.what.split('"')[1].replace(".", "/")
    for folder in list(Path(file).absolute().parents)[:4]:
        for found in (*folder.glob(f"{name}.py"), *folder.glob(f"*/{name}.py")):
            return f"It is in {found.parents[name.count('/')]}: put that folder into PYTHONPATH."
    return "Set PYTHONPATH to the folder that holds it."
