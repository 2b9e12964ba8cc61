"""CAGRAD: near the mean gradient, the direction that is best for the worst task (Liu et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.errors import FieldError
from caffepy.solver.objectives import simplex
from caffepy.solver.objectives.base import Objective, Seen, objective


def conflict_averse(gram: np.ndarray, c: float) -> np.ndarray:
    """The weights (K,) of g_0 + c |g_0| / |g_w| g_w, g_0 the mean gradient, g_w = sum of w g.

    w is the point of the simplex with the least g_w . g_0 + c |g_0| |g_w|, found exactly.
    """
    k = len(gram)
    scale = np.trace(gram)
    if scale <= 0:
        return np.full(k, 1 / k)
    gram = gram / scale
    mean = np.full(k, 1 / k)
    radius = c * np.sqrt(max(mean @ gram @ mean, 0))
    w = _worst_case(gram, gram @ mean, radius)
    length = np.sqrt(max(w @ gram @ w, 0))
    cancelled = length <= 1e-12 * (w @ np.sqrt(np.diag(gram)))
    return mean if cancelled else mean + radius / length * w


def _worst_case(gram: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """The minimum over the simplex of b . w + radius * sqrt(w' G w)."""

    def gradient(w: np.ndarray) -> np.ndarray:
        product = gram @ w
        return b + radius * product / np.sqrt(max(w @ product, 1e-30))

    def affine(support: np.ndarray, w: np.ndarray) -> np.ndarray:
        point = np.zeros(len(gram))
        point[support] = _affine_minimum(gram[np.ix_(support, support)], b[support], radius)
        return point if np.isfinite(point).all() else w + 1e6 * _steepest(gram, b, support)

    value = b + radius * np.sqrt(np.diag(gram))
    return simplex.minimum(len(gram), int(np.argmin(value)), gradient, affine)


def _affine_minimum(gram: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """The minimum among w with the sum 1; infinite where there is none.

    Where it is, b + radius G w / s = mu 1, s = sqrt(w' G w): w = s / radius (mu p - q) with p = G^-1 1, q = G^-1 b.
    That s^2 = w' G w makes mu the larger root of mu^2 1'p - 2 mu 1'q + b'q = radius^2, and the sum 1 gives s.
    """
    p, q = simplex.solved(gram, np.ones_like(b)), simplex.solved(gram, b)
    root = q.sum() ** 2 - p.sum() * (b @ q - radius**2)
    if root <= 0:
        return np.full(len(b), np.inf)
    mu = (q.sum() + np.sqrt(root)) / p.sum()
    return (mu * p - q) / np.sqrt(root)


def _steepest(gram: np.ndarray, b: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The direction (K,) with the sum 0 in which b . w falls fastest for its length sqrt(v' G v)."""
    part, b = gram[np.ix_(support, support)], b[support]
    p, q = simplex.solved(part, np.ones_like(b)), simplex.solved(part, b)
    direction = np.zeros(len(gram))
    direction[support] = q.sum() / p.sum() * p - q
    return direction / max(np.abs(direction).max(), 1e-300)


@objective("CAGRAD")
class CAGrad(Objective):
    """`conflict_averse` with `cagrad { c: 0.5 }`."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        if not 0 <= self.p.cagrad.c < 1:
            raise FieldError(f"cagrad.c must lie in [0, 1), got {self.p.cagrad.c:g}", "multi_task.cagrad.c")

    def weights(self, seen: Seen) -> np.ndarray:
        return conflict_averse(seen.gram, self.p.cagrad.c)
