"""DWA: dynamic weight average, by how fast the losses fall (Liu, Johns and Davison 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.errors import FieldError
from caffepy.solver.objectives.base import Objective, Seen, objective


def weights(last: np.ndarray, before: np.ndarray, temperature: float) -> np.ndarray:
    """K softmax(r / temperature), r = last / before: the mean losses (K,) of the last period and of that before."""
    r = last / np.maximum(before, np.finfo(np.float32).tiny) / temperature
    e = np.exp(r - r.max())
    return len(e) * e / e.sum()


@objective("DWA")
class DWA(Objective):
    """`weights` of the mean losses of the last two periods; 1 before there are two.

    `dwa { temperature: 2 period: 100 }`: iterations; without a period an epoch of the net's data.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        if not self.p.dwa.temperature > 0:
            raise FieldError(
                f"dwa.temperature must be positive, got {self.p.dwa.temperature:g}", "multi_task.dwa.temperature"
            )
        self.sum, self.count = np.zeros(len(self.tasks)), 0
        self.means: list[np.ndarray] = []
        """Of the last two periods, the last one last."""

    def weights(self, seen: Seen) -> np.ndarray:
        used = np.ones(len(self.tasks))
        if len(self.means) == 2:
            used = weights(self.means[1], self.means[0], self.p.dwa.temperature)
        self.sum, self.count = self.sum + seen.losses, self.count + 1
        if self.count >= self.p.dwa.period:
            self.means = [*self.means[-1:], self.sum / self.count]
            self.sum, self.count = np.zeros_like(self.sum), 0
        return used

    def state(self) -> dict[str, Any]:
        return {"sum": self.sum, "count": self.count, "means": self.means}

    def set_state(self, state: dict[str, Any]) -> None:
        self.sum, self.count, self.means = state["sum"], state["count"], list(state["means"])
