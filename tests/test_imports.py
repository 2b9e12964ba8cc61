"""Imports run one way, from room to room as in ROOMS, and never in a circle inside a room.

All of them count: lazy ones inside functions, those under TYPE_CHECKING, and modules that tables name to import later.
The modules that fill a registry it imports itself, when something is first looked up: they, not it, know the other.
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
    "recommend", "generate", "serve", "show", "zoo", "pycaffe", "facade", "cli",
]  # fmt: skip
FACADE = "facade"  # `caffepy/__init__.py`: what scripts and commands import it from


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
        return "cli" if inner else FACADE
    return "root" if inner[0] in ROOT else inner[0]


def imports(source: str) -> Iterator[str]:
    """The modules of caffepy that the text of a module imports, anywhere, or names."""
    tree = ast.parse(source)
    fill = set(fillers(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in fill and node.value in MODULES.keys() - {"caffepy"}:
            yield str(node.value)
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


def fillers(tree: ast.AST) -> Iterator[ast.Constant]:
    """The modules that `Registry(..., own=(...))` names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Registry":
            for keyword in node.keywords:
                if keyword.arg == "own":
                    yield from (inner for inner in ast.walk(keyword.value) if isinstance(inner, ast.Constant))


ARROWS = [
    (module, target) for module, path in MODULES.items() for target in imports(path.read_text()) if target != module
]


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
    assert {room(module) for module in MODULES} <= set(ROOMS)


def test_imports_run_one_way():
    order = {name: i for i, name in enumerate(ROOMS)}
    back = [f"{source} -> {target}" for source, target in ARROWS if order[room(target)] > order[room(source)]]
    assert sorted(set(back)) == []


def test_what_fills_a_registry_imports_it():
    """Each module that a registry names, or one in it: else the name would be an arrow like any other."""
    for module, path in MODULES.items():
        for named in fillers(ast.parse(path.read_text())):
            filling = [other for other in MODULES if f"{other}.".startswith(f"{named.value}.") and other != module]
            assert any((other, module) in ARROWS for other in filling), f"{module} names {named.value}"


def test_the_tables_of_the_facade_are_walked():
    found = {target for source, target in ARROWS if source == "caffepy"}
    assert {"caffepy.pycaffe.net", "caffepy.pycaffe.io", "caffepy.show.draw", "caffepy.solver.events"} <= found
    assert {target for source, target in ARROWS if source == "caffepy.pycaffe"} >= {"caffepy.pycaffe.nccl"}


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
HOMES = {"caffepy.net.net": "Net"}
registry = Registry("layer type", own=("caffepy.layers",))
"""
    found = ["caffepy.net.blob", "caffepy.net.blob", "caffepy.net.net", "caffepy.rng"]
    assert sorted(imports(source)) == found
    assert circles({"a", "b", "c", "d"}, [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]
    assert circles({"a"}, [("a", "a")]) == [["a"]]
