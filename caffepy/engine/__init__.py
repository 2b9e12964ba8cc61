"""Engines: where arrays live and the kernels that an array namespace is too slow for."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from caffepy.engine.base import Engine
from caffepy.engine.gpus import check_gpu, gpu_count
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.errors import ConfigError, MissingExtraError

__all__ = ["Engine", "check_gpu", "choose_default", "default_engine", "get_engine", "gpu_count", "gpu_engine"]

NAMES = ("numpy", "torch")
PRECISIONS = ("float32", "tf32", "bf16")


def get_engine(name: str, device: str | None = None, precision: str = "float32") -> Engine:
    """The engine called `name` ("numpy" or "torch"), one instance a process, device and precision.

    `device` is PyTorch's name of it, by default "cpu"; `precision` one of "float32", "tf32" and "bf16", for torch.
    Raises ConfigError for what there is not, and MissingExtraError where PyTorch is not installed.
    """
    return _engine(name, device or "cpu", precision)


@cache
def _engine(name: str, device: str, precision: str) -> Engine:
    if precision not in PRECISIONS:
        raise ConfigError(f'no precision "{precision}"', hint=f"Known: {', '.join(PRECISIONS)}.")
    if name == "numpy":
        if precision != "float32":
            raise ConfigError(f"the numpy engine knows no {precision}", hint="Add --engine torch, or --gpu.")
        if device != "cpu":
            raise ConfigError(f"the numpy engine knows no {device}", hint="Add --engine torch, or --gpu.")
        return NumpyEngine()
    if name == "torch":
        for package in ("torch", "array_api_compat"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "torch", "the torch engine")
        from caffepy.engine.torch.engine import TorchEngine

        return TorchEngine(device, precision)
    raise ConfigError(f'no engine "{name}"', hint=f"Known engines: {', '.join(NAMES)}.")


_chosen: Engine | None = None


def choose_default(engine: Engine | None) -> None:
    """Make `engine` the default for nets and solvers built from now on; None for NumPy's again."""
    global _chosen
    _chosen = engine


def default_engine() -> Engine:
    """The engine that CAFFEPY_ENGINE names, else the one chosen by `choose_default`, else NumPy's."""
    named = os.environ.get("CAFFEPY_ENGINE")
    if not named and _chosen is not None:
        return _chosen
    return get_engine(named or "numpy")


def gpu_engine(index: int = 0, precision: str = "float32") -> Engine:
    """The torch engine on GPU `index`. Raises MissingExtraError and ConfigError where there is none."""
    check_gpu(index)
    return get_engine("torch", f"cuda:{index}", precision)
