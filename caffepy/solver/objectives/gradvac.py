"""GRADVAC: gradients are turned until their cosines are as usual (Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffepy.errors import FieldError
from caffepy.solver.objectives import orders
from caffepy.solver.objectives.base import Objective, Seen, objective

_MOST = 1 - 1e-3
"""A target beyond it would make a gradient endless: where two are parallel for long, theirs goes to 1."""


def vaccinated(
    gram: np.ndarray, targets: np.ndarray, order: Sequence[np.ndarray], beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """The weights (K,) of the sum of the turned gradients, and the new targets (K, K).

    With c the cosine of g_i, as turned so far, and the original g_j, and a target t > c:
    g_i += |g_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) g_j, after which the cosine is t. Then
    t = (1 - beta) t + beta c.
    """
    rows, targets = np.eye(len(gram)), targets.copy()
    lengths = np.sqrt(np.diag(gram))
    for i, others in enumerate(order):
        for j in others:
            length = np.sqrt(max(rows[i] @ gram @ rows[i], 0))
            if not length or not lengths[j]:
                continue
            c = np.clip(rows[i] @ gram[:, j] / (length * lengths[j]), -1, 1)
            t = np.clip(targets[i, j], -_MOST, _MOST)
            if c < t:
                sine = np.sqrt(1 - t * t)
                rows[i, j] += length * (t * np.sqrt(1 - c * c) - c * sine) / (lengths[j] * sine)
            targets[i, j] = (1 - beta) * t + beta * c
    return rows.sum(axis=0), targets


@objective("GRADVAC")
class GradVac(Objective):
    """`vaccinated`, targets 0 at first, in an order that is drawn anew for each task and iteration.

    `gradvac { beta: 0.01 }`.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        if not 0 <= self.p.gradvac.beta < 1:
            raise FieldError(f"gradvac.beta must lie in [0, 1), got {self.p.gradvac.beta:g}", "multi_task.gradvac.beta")
        self.targets = np.zeros((len(self.tasks), len(self.tasks)))

    def weights(self, seen: Seen) -> np.ndarray:
        order = orders.draw(self.random, len(self.tasks))
        found, self.targets = vaccinated(seen.gram, self.targets, order, self.p.gradvac.beta)
        return found

    def state(self) -> dict[str, Any]:
        return {"targets": self.targets, **orders.state(self.random)}

    def set_state(self, state: dict[str, Any]) -> None:
        self.targets = state["targets"]
        orders.set_state(self.random, state)
