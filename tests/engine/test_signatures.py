"""Both engines offer the same methods with the same signatures: layers cannot tell them apart."""

from __future__ import annotations

import inspect

import pytest

from caffepy.engine.numpy.engine import NumpyEngine

torch_engine = pytest.importorskip("caffepy.engine.torch.engine", reason="torch is not installed")

NUMPY_ONLY = {"scratch", "forget_scratch", "threads", "alone"}
"""What the NumPy engine offers to its own kernels and to parts of a batch."""


def public(engine: type) -> set[str]:
    return {name for name in vars(engine) if not name.startswith("_")}


def test_the_same_names():
    assert public(NumpyEngine) - NUMPY_ONLY == public(torch_engine.TorchEngine) - {"xp"} | {"xp"}


@pytest.mark.parametrize("name", sorted(n for n in public(NumpyEngine) if inspect.isfunction(vars(NumpyEngine)[n])))
def test_the_same_parameters(name):
    if name in NUMPY_ONLY:
        return
    ours, theirs = (inspect.signature(getattr(e, name)) for e in (NumpyEngine, torch_engine.TorchEngine))
    described = [[(p.name, p.default, p.kind) for p in s.parameters.values()] for s in (ours, theirs)]
    assert described[0] == described[1]
