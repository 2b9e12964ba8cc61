"""The facade for scripts written for pycaffe; nothing in the core imports it.

`from caffe.pycaffe import Net, SGDSolver`: the names that pycaffe's module of this name has.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "NCCL", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver",
    "Timer",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'caffepy.pycaffe' has no attribute {name!r}")
    import caffepy

    return getattr(caffepy, name)
