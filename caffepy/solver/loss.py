"""The displayed loss: a running mean."""

from __future__ import annotations

from typing import Any


class SmoothedLoss:
    """Mean of the last `window` losses, of those seen so far until there are as many."""

    def __init__(self, window: int):
        self.window = max(1, window)
        self.losses: list[float] = []
        self.count = 0

    def add(self, loss: float) -> None:
        if len(self.losses) < self.window:
            self.losses.append(loss)
        else:
            self.losses[self.count % self.window] = loss
        self.count += 1

    @property
    def value(self) -> float:
        return sum(self.losses) / len(self.losses) if self.losses else 0.0

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "count": self.count}

    def set_state(self, state: dict[str, Any]) -> None:
        self.losses, self.count = list(state["losses"]), state["count"]
