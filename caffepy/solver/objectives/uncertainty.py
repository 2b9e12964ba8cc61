"""UNCERTAINTY: the variance of each task is learned (Kendall, Gal and Cipolla 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.solver.objectives.base import Objective, Seen, objective
from caffepy.solver.objectives.learned import Learned


@objective("UNCERTAINTY")
class Uncertainty(Objective):
    """The sum of h exp(-s) L + s / 2, s = ln sigma^2 learned from 0 on; h is 1 for classification, 1/2 for regression.

    The factor of a task's gradient is h exp(-s); the gradient of s is 1/2 - h exp(-s) L.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.half = np.where(self.tasks.regression, 0.5, 1.0)
        self.log_variance = Learned(np.zeros(len(self.tasks)), self.solver)

    def weights(self, seen: Seen) -> np.ndarray:
        factors = self.half * np.exp(-self.log_variance.values)
        self.log_variance.step(0.5 - factors * seen.losses, seen.rate, seen.t)
        return factors

    def state(self) -> dict[str, Any]:
        return self.log_variance.state()

    def set_state(self, state: dict[str, Any]) -> None:
        self.log_variance.set_state(state)
