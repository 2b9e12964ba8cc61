"""The facade for scripts written for pycaffe; nothing in the core imports it.

`from caffe.pycaffe import Net, SGDSolver`: the names that pycaffe's module of this name has.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "NCCL", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver",
    "Timer",
]  # fmt: skip

_HOMES = {"NCCL": "caffepy.pycaffe.nccl", "Net": "caffepy.pycaffe.net", "Timer": "caffepy.pycaffe.mode"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'caffepy.pycaffe' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "caffepy.pycaffe.solvers")), name)
