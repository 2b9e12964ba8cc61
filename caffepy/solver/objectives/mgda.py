"""MGDA: the shortest vector that the gradients' weighted means can be (Desideri 2012; Sener and Koltun 2018)."""

from __future__ import annotations

import numpy as np

from caffepy.solver.objectives import simplex
from caffepy.solver.objectives.base import Objective, Seen, objective


def min_norm(gram: np.ndarray) -> np.ndarray:
    """The weights w (K,) of the simplex with the least w' G w, exactly: `gram` G (K, K)."""
    scale = max(np.trace(gram), np.finfo(float).tiny)
    gram = gram / scale

    def affine(support: np.ndarray, w: np.ndarray) -> np.ndarray:
        # G w = mu 1 on the support; a little more on the diagonal where gradients depend on each other.
        part = gram[np.ix_(support, support)] + 1e-14 * np.eye(len(support))
        found = np.linalg.solve(part, np.ones(len(support)))
        point = np.zeros(len(gram))
        point[support] = found / found.sum()
        return point

    return simplex.minimum(len(gram), int(np.argmin(np.diag(gram))), lambda w: gram @ w, affine)


@objective("MGDA")
class MGDA(Objective):
    """Its direction lowers all losses, or is 0 where none can fall without another rising."""

    def weights(self, seen: Seen) -> np.ndarray:
        return min_norm(seen.gram)
