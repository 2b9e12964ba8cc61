"""MGDA: the shortest vector that the gradients' weighted means can be (Desideri 2012; Sener and Koltun 2018)."""

from __future__ import annotations

import numpy as np

from caffepy.solver.objectives import simplex
from caffepy.solver.objectives.base import Objective, Seen, objective


def min_norm(gram: np.ndarray) -> np.ndarray:
    """The weights w (K,) of the simplex with the least w' G w, exactly: `gram` G (K, K)."""

    def affine(support: np.ndarray, w: np.ndarray) -> np.ndarray:
        point = np.zeros(len(gram))
        point[support] = simplex.affine_min_norm(gram[np.ix_(support, support)])
        return point

    return simplex.minimum(len(gram), int(np.argmin(np.diag(gram))), lambda w: gram @ w, affine)


@objective("MGDA")
class MGDA(Objective):
    """Its direction lowers all losses, or is 0 where none can fall without another rising."""

    def weights(self, seen: Seen) -> np.ndarray:
        return min_norm(seen.gram)
