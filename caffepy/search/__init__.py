"""Hyper-parameters from a prototxt, and cross-validation. The room itself is the function `caffepy.search(...)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from caffepy.search.calls import search

        return search(*args, **options)


sys.modules[__name__].__class__ = _Room
