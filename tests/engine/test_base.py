"""The contract: both engines keep it to the letter, and nobody asks an engine for more. Read from the source, so that
the torch engine is checked where torch is not installed, too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import caffepy
from caffepy import engine as room
from caffepy.engine import get_engine
from caffepy.engine.base import Engine
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.errors import ConfigError

PACKAGE = Path(caffepy.__file__).parent
ROOM = PACKAGE / "engine"
ENGINES = {"numpy": ("numpy/engine.py", "NumpyEngine"), "torch": ("torch/engine.py", "TorchEngine")}
DECLARED = {name for name in (*vars(Engine), *Engine.__annotations__) if not name.startswith("_")}
OUTSIDE = [path for path in sorted(PACKAGE.rglob("*.py")) if ROOM not in path.parents]
OF_THE_ROOM = {f"caffepy.engine{name}" for name in ("", ".after", ".power", ".threads", ".window")}
"""What others may import; kernels they do not."""


def definitions(file: str, name: str) -> dict[str, ast.AST]:
    """What a class in a file of the engine's room defines, by name."""
    tree = ast.parse((ROOM / file).read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    assert name == "Engine" or [base.id for base in found.bases] == ["Engine"]
    return {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}


def signature(function: ast.FunctionDef) -> list:
    """Names, kinds and defaults of a function's arguments, and what it is decorated with."""
    a = function.args
    kinds = [[argument.arg for argument in some] for some in (a.posonlyargs, a.args, a.kwonlyargs)]
    rest = [argument and argument.arg for argument in (a.vararg, a.kwarg)]
    return [kinds, rest, [ast.dump(value) for value in (*a.defaults, *a.kw_defaults) if value]]


CONTRACT = definitions("base.py", "Engine")


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_has_what_is_declared_and_no_more(name):
    methods = definitions(*ENGINES[name])
    public = {method for method in methods if not method.startswith("_")}
    assert public <= DECLARED
    assert Engine.__abstractmethods__ <= public


@pytest.mark.parametrize("name", ENGINES)
def test_the_parameters_are_those_declared(name):
    for method, function in definitions(*ENGINES[name]).items():
        if method in CONTRACT:
            assert signature(function) == signature(CONTRACT[method]), method


def test_everything_is_documented():
    assert all(ast.get_docstring(function) for name, function in CONTRACT.items() if not name.startswith("_"))


def is_engine(node: ast.AST) -> bool:
    """Whether an expression is an engine by the name that it goes by."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    called = isinstance(node, ast.Call) and is_engine_maker(node.func)
    return called or name in ("engine", "_engine")


def is_engine_maker(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("default_engine", "get_engine", "gpu_engine")


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_asks_for_more(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and is_engine(node.value):
            assert node.attr in DECLARED or node.attr in room.__all__, f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            assert not is_engine(node.args[0]), f"line {node.lineno}"


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_imports_a_kernel(path):
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.startswith("caffepy.engine"):
                assert module in OF_THE_ROOM, f"line {node.lineno}"


WHERE_ARRAYS_LIE = {"cli/train.py", "pycaffe/host.py", "pycaffe/nccl.py"}
"""Who must know: those that choose between NCCL and gloo, and that lend blobs to scripts, which know NumPy alone."""


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_asks_which_engine_computes(path):
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    allowed = {"on_gpu"} if path.relative_to(PACKAGE).as_posix() in WHERE_ARRAYS_LIE else set()
    assert not names & {"lazy", "on_gpu"} - allowed


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_known(engine):
    if engine == "torch":
        pytest.importorskip("torch")
    made = get_engine(engine)
    number = made.xp.sum(made.asarray([1.5, 2]))
    assert made.known(number) == 3.5 and type(made.known(number)) is float
    assert made.host_bytes(5) == 20


def test_what_a_device_is_still_to_compute_is_not_known(monkeypatch):
    made = NumpyEngine(threads=1)
    made.lazy = made.on_gpu = True
    assert made.known(made.asarray([1.0])[0]) is None and made.known(2.0) == 2
    assert made.host_bytes(5) == 0


def test_an_engine_is_one_instance():
    assert get_engine("numpy") is get_engine("numpy", "cpu") is get_engine("numpy", None, "float32")


def test_the_numpy_engine_has_one_device():
    with pytest.raises(ConfigError, match=r"the numpy engine knows no cuda:0\n  Add --engine torch"):
        get_engine("numpy", "cuda:0")


def test_an_engine_lacks_nothing():
    class Unfinished(Engine):
        name = "unfinished"

    with pytest.raises(TypeError, match="gemm"):
        Unfinished()
