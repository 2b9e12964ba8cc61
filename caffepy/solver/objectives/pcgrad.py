"""PCGRAD: gradients lose what conflicts with others (Yu et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffepy.solver.objectives import orders
from caffepy.solver.objectives.base import Objective, Seen, objective


def surgery(gram: np.ndarray, order: Sequence[np.ndarray]) -> np.ndarray:
    """The weights (K,) of the sum of the projected gradients.

    Each g_i, while its product with one of the others, the original g_j in the `order` of i, is negative, is projected
    on the plane across g_j: g_i -= (g_i . g_j) / |g_j|^2 g_j.
    """
    rows = np.eye(len(gram))  # g_i as a sum of the original gradients
    for row, others in zip(rows, order):
        for j in others:
            product = row @ gram[:, j]
            if product < 0 < gram[j, j]:
                row[j] -= product / gram[j, j]
    return rows.sum(axis=0)


@objective("PCGRAD")
class PCGrad(Objective):
    """`surgery` in an order that is drawn anew for each task and iteration."""

    def weights(self, seen: Seen) -> np.ndarray:
        return surgery(seen.gram, orders.draw(self.random, len(self.tasks)))

    def state(self) -> dict[str, Any]:
        return orders.state(self.random)

    def set_state(self, state: dict[str, Any]) -> None:
        orders.set_state(self.random, state)
