"""What files may make this process do: switches of the whole process, which the command line and programs turn."""

from __future__ import annotations

import os

_python_layers: bool | None = None
_overwriting = False


def allow_python_layers(allowed: bool | None = True) -> None:
    """Whether a net may name a Python module to be run; None: unless CAFFEPY_NO_PYTHON_LAYERS is set."""
    global _python_layers
    _python_layers = allowed


def python_layers() -> bool:
    if _python_layers is not None:
        return _python_layers
    return os.environ.get("CAFFEPY_NO_PYTHON_LAYERS", "0") in ("", "0")


def allow_overwriting(allowed: bool = True) -> None:
    """Whether snapshots and HDF5Output may replace files that are no snapshots and no outputs."""
    global _overwriting
    _overwriting = allowed


def overwriting() -> bool:
    return _overwriting
