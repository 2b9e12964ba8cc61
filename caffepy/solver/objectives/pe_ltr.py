"""PE_LTR: a Pareto-efficient mean with least weights (Lin et al. 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.errors import FieldError
from caffepy.solver.objectives import simplex
from caffepy.solver.objectives.base import Objective, Seen, objective


def two_steps(gram: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Weights (K,) with the sum 1, each at least c_k, of a short mean gradient, as algorithm 2 of the paper has it.

    First w^ = (M'M)^-1 M' [-G G' c; 1 - e'c], M = [G G' e; e' 0], whose weights may be negative; then the nearest
    point of the simplex of what c leaves, plus c.
    """
    # M w^ = [-G G' c; 1 - e'c] has a solution: what c lacks to the shortest mean, negative weights allowed.
    relaxed = simplex.affine_min_norm(gram) - least
    return simplex.projection(relaxed, 1 - least.sum()) + least


@objective("PE_LTR")
class PELTR(Objective):
    """`two_steps` with c the `min_weight` of each task."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.least = np.array([task.min_weight for task in self.p.task] or [0.0] * len(self.tasks), float)
        if (self.least < 0).any() or self.least.sum() > 1 + 1e-6:
            raise FieldError(
                f"the min_weights must not be negative, nor sum to more than 1: {self.least.round(6).tolist()} sum to "
                f"{self.least.sum():g}",
                "multi_task.task.min_weight",
                hint="Each task gets its min_weight, and a share of what they leave of 1.",
            )

    def weights(self, seen: Seen) -> np.ndarray:
        return two_steps(seen.gram, self.least)
