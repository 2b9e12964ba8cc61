"""Engines: where arrays live and the kernels that an array namespace is too slow for."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from caffepy.engine.numpy import NumpyEngine as Engine
from caffepy.errors import ConfigError, MissingExtraError

__all__ = ["Engine", "default_engine", "get_engine"]

NAMES = ("numpy", "torch")


@cache
def get_engine(name: str, device: str | None = None) -> Engine:
    """The engine called `name` ("numpy" or "torch"), one instance a process and device."""
    if name == "numpy":
        return Engine()
    if name == "torch":
        if find_spec("torch") is None:
            raise MissingExtraError("torch", "torch", "the torch engine")
        try:
            from caffepy.engine.torch import TorchEngine
        except ModuleNotFoundError as error:
            raise ConfigError("the torch engine is not part of this version yet", hint="Use numpy's.") from error

        return TorchEngine(device)
    raise ConfigError(f'no engine "{name}"', hint=f"Known engines: {', '.join(NAMES)}.")


def default_engine() -> Engine:
    """The engine that CAFFEPY_ENGINE names, else NumPy's."""
    return get_engine(os.environ.get("CAFFEPY_ENGINE", "numpy"))
