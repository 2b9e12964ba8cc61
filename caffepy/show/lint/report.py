"""Findings in words: lines for pipes and editors, a page for terminals, JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from caffepy.show.lint.finding import LEVELS, Finding
from caffepy.show.lint.reviews import Review
from caffepy.show.summary import Summary, count

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {"error": "bold red", "warning": "yellow", "absent": "magenta", "note": "cyan"}


def lines(reviews: list[Review]) -> Iterator[str]:
    """`file:line:column: level: message [rule]`, below it the remedy; a line on each file, and one at the end."""
    for review, findings in _new(reviews):
        for finding in findings:
            yield f"{finding.where}: {finding.level}: {finding.text} [{finding.rule}]"
            yield from (f"  {line}" for line in finding.remedy.splitlines())
        yield f"{review.file}: {_built(review)}"
    yield total(reviews)


def total(reviews: list[Review]) -> str:
    """How much was found in how many files."""
    counts = Counter(finding.level for _, findings in _new(reviews) for finding in findings)
    found = ", ".join(_number(counts[level], level) for level in LEVELS if counts[level] or level == "error")
    return f"{_number(len(reviews), 'file')}: {found}"


def page(reviews: list[Review]) -> Iterator[RenderableType]:
    """The same for a terminal."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from caffepy.show.logs import printable

    for review, findings in _new(reviews):
        yield Text.assemble((printable(review.file), "bold underline"), "  ", (printable(_built(review)), "dim"))
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", no_wrap=True, style="dim")
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        file = review.file
        for finding in findings:
            if finding.file != file:
                file = finding.file
                table.add_row("", "", Text(printable(file), "underline"))
            place = f"{finding.line}:{finding.column}" if finding.line else ""
            said = Text.assemble(printable(finding.text), "  ", (finding.rule, "dim italic"))
            if finding.remedy:
                said.append(f"\n{printable(finding.remedy)}", "dim")
            table.add_row(place, Text(finding.level, _COLOURS[finding.level]), said)
        yield Padding(table, (0, 0, 1, 2), expand=True)
    failed = any(review.fails for review in reviews)
    yield Text(total(reviews), "bold red" if failed else "bold green")


def as_json(reviews: list[Review]) -> str:
    """An object a file: what it is, what was built, whether it could train or run, and what was found."""
    return json.dumps([_as_dict(review) for review in reviews], indent=1)


def _as_dict(review: Review) -> dict[str, Any]:
    return {
        "file": review.file,
        "kind": review.kind or None,
        "name": review.name or None,
        "ok": not review.fails,
        "states": [
            {
                "state": name,
                "layers": summary.num_layers,
                "parameters": summary.parameters,
                "unchecked": net.unchecked,
            }
            for name, net in review.states
            if (summary := Summary.of(net))
        ],
        "findings": [finding.as_dict() for finding in review.findings],
    }


def _built(review: Review) -> str:
    """`net "LeNet": TRAIN 9 layers, TEST 12 layers, 431 k parameters`."""
    if not review.kind:
        return "could not be read"
    name = f' "{review.name}"' if review.name else ""
    states = []
    for state, net in review.states:
        unchecked = f" ({len(net.unchecked)} not looked at)" if net.unchecked else ""
        states.append(f"{Summary.of(net).num_layers} layers in {state}{unchecked}")
    parameters = max((Summary.of(net).parameters for _, net in review.states), default=0)
    size = [f"{count(parameters)} parameters"] if parameters else []
    return f"{review.kind}{name}: {'; '.join([*states, *size]) or 'nothing was built'}"


def _new(reviews: list[Review]) -> Iterator[tuple[Review, list[Finding]]]:
    """What was not found in a file before: several solvers often have one net."""
    told: set[Finding] = set()
    for review in reviews:
        yield review, [finding for finding in review.findings if finding not in told]
        told.update(review.findings)


def _number(number: int, what: str) -> str:
    if what == "absent":
        return f"{number} absent"
    return f"{number} {what}{'' if number == 1 else 's'}"
