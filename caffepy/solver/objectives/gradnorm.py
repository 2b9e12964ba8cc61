"""GRADNORM: weights that let all tasks train at one rate (Chen et al. 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.solver.objectives.base import Objective, Seen, objective
from caffepy.solver.objectives.learned import Learned


def weight_gradient(weights: np.ndarray, norms: np.ndarray, ratios: np.ndarray, alpha: float) -> np.ndarray:
    """The gradient of sum |G_i - target_i| for the weights (K,), the targets constant.

    G_i = w_i n_i, n_i the norm of the task's gradient on the layer; target_i = mean(G) r_i^alpha, r_i the loss ratio
    L_i / L_i(0) over the mean of these ratios.
    """
    measured = weights * norms
    target = measured.mean() * (ratios / ratios.mean()) ** alpha
    return np.sign(measured - target) * norms


@objective("GRADNORM")
class GradNorm(Objective):
    """Weights w, 1 at first, follow `weight_gradient` by the solver's rule and are scaled to a sum of K.

    `gradnorm { alpha: 1.5 layer: "shared_fc2" }`. The first losses seen are L(0).
    """

    needs_layer = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.learned = Learned(np.ones(len(self.tasks)), self.solver)
        self.first: np.ndarray | None = None

    @property
    def layer(self) -> str:
        return self.p.gradnorm.layer

    def weights(self, seen: Seen) -> np.ndarray:
        if self.first is None:
            self.first = np.zeros(len(self.tasks))
        # A mask may exclude a task's whole first batch: its training begins with the first loss that is none.
        self.first = np.where(self.first > 0, self.first, seen.losses)
        begun = self.first > 0
        used = self.learned.values
        norms = np.sqrt(np.diag(seen.layer_gram))
        ratios = np.divide(seen.losses, self.first, out=np.ones(len(self.tasks)), where=begun)
        if ratios.mean() > 0:
            gradient = weight_gradient(used, norms, ratios, self.p.gradnorm.alpha)
            self.learned.step(gradient, seen.rate, seen.t)
            kept = np.maximum(self.learned.values, 1e-6)
            self.learned.values = kept * len(kept) / kept.sum()
        return used

    def state(self) -> dict[str, Any]:
        return {"first": self.first, **self.learned.state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.first = state["first"]
        self.learned.set_state(state)
