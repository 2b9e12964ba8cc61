"""Findings about trained weights that are to go into a net."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from caffepy.errors import CaffeError
from caffepy.net import weights
from caffepy.net.build import Node
from caffepy.show.draft import Draft
from caffepy.show.lint.finding import ERROR, NOTE, WARNING, Finding, of_error

_MOST_NAMES = 6


def of_weights(files: list[str], nets: list[Draft], net_file: str) -> Iterator[Finding]:
    """How the weights of all files together fit the layers of all states."""
    nodes = {node.layer.name: node for net in nets for node in net.nodes if node.layer.blobs}
    stored: dict[str, str] = {}
    for file in files:
        try:
            checks = weights.checks(file)
        except CaffeError as error:
            yield of_error(error, "weights-cannot-be-read", file)
            return
        stored.update(dict.fromkeys(checks, file))
        yield from _misfits(checks, nodes, net_file)
    if files and nodes:
        yield from _strangers(stored, nodes, {name for net in nets for name in net.unchecked}, net_file)


def _misfits(checks: dict[str, Callable], nodes: dict[str, Node], net_file: str) -> Iterator[Finding]:
    for name, check in checks.items():
        if name in nodes:
            try:
                check(nodes[name].layer.blobs)
            except CaffeError as error:
                where = of_error(CaffeError("", where=nodes[name].place), "", net_file)
                yield Finding(ERROR, "weights-do-not-fit", error.message, error.hint, where.file, where.line,
                              where.column, name)  # fmt: skip


def _strangers(stored: dict[str, str], nodes: dict[str, Node], unchecked: set[str], net_file: str) -> Iterator[Finding]:
    missing = [name for name in nodes if name not in stored]
    unused = [name for name in stored if name not in nodes and name not in unchecked]
    if len(missing) == len(nodes):
        yield Finding(ERROR, "weights-of-another-net", "no layer with parameters has a name that the weights have",
                      f"They have {_listed(list(stored))}.", net_file)  # fmt: skip
    elif missing:
        at = of_error(CaffeError("", where=nodes[missing[0]].place), "", net_file)
        yield Finding(WARNING, "weights-are-missing", f"the weights have nothing for {_listed(missing)}: "
                      "they stay as their fillers make them", "So it must be for layers to be trained anew.",
                      at.file, at.line, at.column)  # fmt: skip
    if unused and len(missing) < len(nodes):
        yield Finding(NOTE, "weights-are-unused", f"the net has no layer for {_listed(unused)}",
                      file=stored[unused[0]])  # fmt: skip


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
