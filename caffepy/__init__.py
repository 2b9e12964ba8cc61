"""caffepy: Caffe's nets, solvers and files in Python. `import caffepy as caffe` runs pycaffe scripts.

Names load when first used, so that importing the package, and `caffepy --help`, costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_EXPORTS = {
    "Blob": "caffepy.blob",
    "Net": "caffepy.net",
    "Solver": "caffepy.solver",
    "get_solver": "caffepy.solver",
    "register_layer": "caffepy.layer",
}

TRAIN, TEST = 0, 1

try:
    __version__ = version("caffepy")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0"

__all__ = ["TEST", "TRAIN", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(import_module(_EXPORTS[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'caffepy' has no attribute {name!r}")
