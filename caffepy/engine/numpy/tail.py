"""Tail: what follows a convolution, done to each tile of its outputs. All is channels-last."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Tail(NamedTuple):
    """y = factor y + offset a channel, where there are fewer outputs than weights; + add, like y; then max(y, 0)."""

    factor: np.ndarray | None = None
    offset: np.ndarray | None = None
    add: np.ndarray | None = None
    relu: bool = False

    def finish(self, y, *tile: slice) -> None:
        """y is the tile of the outputs."""
        if self.factor is not None:
            y *= self.factor
            y += self.offset
        if self.add is not None:
            y += self.add[tile]
        if self.relu:
            np.clip(y, 0, np.inf, out=y)


NONE = Tail()
