"""Imports run one way, from room to room as in ROOMS, and never in a circle inside a room.

All of them count: lazy ones inside functions and those under TYPE_CHECKING, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "caffepy"
ROOT = ("errors", "files", "hdf5", "limits", "permissions", "plugins", "rng", "temporary")
ROOMS = [
    "root", "proto", "engine", "net", "passes", "data", "layers", "solver", "distributed", "arrays", "search", "export",
    "recommend", "generate", "serve", "show", "zoo", "pycaffe", "cli",
]  # fmt: skip
FACADE = "caffepy"  # `caffepy/__init__.py` stands above all rooms, and `__main__.py`


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room of a module; modules beside the rooms are of the root, if they are those that may be there."""
    inner = module.split(".")[1:]
    if not inner or inner == ["__main__"]:
        return FACADE
    return "root" if inner[0] in ROOT else inner[0]


def imports(source: str) -> Iterator[str]:
    """The modules of caffepy that the text of a module imports, anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "caffepy":
                yield name if name in MODULES else name.rpartition(".")[0]


ARROWS = [(module, target) for module, path in MODULES.items() for target in imports(path.read_text())]


def circles(nodes: set[str], arrows: list[tuple[str, str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reach = {node: {target for source, target in arrows if source == node} for node in nodes}
    for through in nodes:  # Warshall
        for node in nodes:
            if through in reach[node]:
                reach[node] |= reach[through]
    groups = {tuple(sorted(other for other in nodes if other in reach[n] and n in reach[other])) for n in nodes}
    return sorted(list(group) for group in groups if group)


def test_every_module_is_in_a_room():
    assert {room(module) for module in MODULES} <= {*ROOMS, FACADE}


def test_imports_run_one_way():
    order = {name: i for i, name in enumerate([*ROOMS, FACADE])}
    order[FACADE] = order["pycaffe"]  # what the facade offers may be asked of it there, and in the commands
    inside = [(source, target) for source, target in ARROWS if room(source) != FACADE]
    back = [f"{source} -> {target}" for source, target in inside if order[room(target)] > order[room(source)]]
    assert sorted(set(back)) == []


@pytest.mark.parametrize("name", ROOMS)
def test_no_circle_inside_a_room(name):
    own = {module for module in MODULES if room(module) == name}
    assert circles(own, [(a, b) for a, b in ARROWS if a in own and b in own]) == []


def test_the_walk_sees_what_it_should():
    source = """
import caffepy.rng
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from caffepy.net import blob
def f():
    from caffepy.net.blob import Blob
import numpy.random
"""
    assert list(imports(source)) == ["caffepy.rng", "caffepy.net.blob", "caffepy.net.blob"]
    assert circles({"a", "b", "c", "d"}, [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]
    assert circles({"a"}, [("a", "a")]) == [["a"]]
