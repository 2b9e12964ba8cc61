"""After: what a convolution's outputs go through while they are in cache."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any


class After(NamedTuple):
    """y = factor y + offset a channel (O,), + add, an array like y; then max(y, 0). None or False: not."""

    factor: Array | None = None
    offset: Array | None = None
    add: Array | None = None
    relu: bool = False


NOTHING = After()
