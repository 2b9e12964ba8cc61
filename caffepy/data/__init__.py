"""Data sources: readers give record i, order decides which i comes next, transformer and prefetching wrap both.

For users: `database`, `pictures` and `arrays` are datasets, sequences of records, and so is what is composed of them,
see `caffepy.data.composition`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "caffepy.data.composition": "Dataset concat dataset",
    "caffepy.data.records": "arrays database offer pictures",
}
_EXPORTS = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'caffepy.data' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
