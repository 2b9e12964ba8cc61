"""What the campaign does next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Turn(NamedTuple):
    """A trial; `run` says what came of it, and raises AssertionError for what should not have come."""

    name: str
    seed: int
    run: Callable[[], str]
