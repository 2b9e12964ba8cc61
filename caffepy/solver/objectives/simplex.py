"""Exact minima over the simplex: weights that are not negative and have the sum 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Vector = np.ndarray

Affine = Callable[[np.ndarray, Vector], Vector]
"""`affine(support, w)`: the point of the least value among all with the sum 1 that are 0 outside the support (indices),
negative ones allowed; or, where values fall without end, a point far off in the direction in which they fall."""


def minimum(count: int, start: int, gradient: Callable[[Vector], Vector], affine: Affine) -> Vector:
    """The minimum (K,) of a convex function, as Wolfe (1976) finds the point of a polytope nearest to the origin.

    From vertex `start`: the vertex towards which the function falls most joins the support; the minimum of the affine
    hull is gone to, as far as weights stay positive, those that become 0 leave. Each round ends lower, so it ends.
    """
    w = np.eye(count)[start]
    for _ in range(20 * count):
        g = gradient(w)
        best = int(np.argmin(g))
        if g[best] >= g @ w - 1e-12 * (np.abs(g).max() + 1e-300):
            break
        support = np.union1d(np.flatnonzero(w), best)
        before, w = w, _descend(w, support, affine)
        if np.array_equal(w, before):  # what is left is rounding
            break
    return w


def _descend(w: Vector, support: np.ndarray, affine: Affine) -> Vector:
    """The minimum of the affine hull of ever fewer vertices, until it lies inside."""
    while True:
        target = affine(support, w)
        falling = target < -1e-15
        if not falling.any():
            return np.maximum(target, 0) / np.maximum(target, 0).sum()
        steps = np.full(len(w), np.inf)
        steps[falling] = w[falling] / (w[falling] - target[falling])
        first = int(np.argmin(steps))
        w = w + steps[first] * (target - w)
        w[first] = 0
        w = np.maximum(w, 0)
        support = np.flatnonzero(w)
        if len(support) == 1:
            return w / w.sum()


def affine_min_norm(gram: np.ndarray) -> Vector:
    """The weights (K,), negative ones allowed, with the sum 1 and the least w' G w; `gram` G (K, K).

    w = u / 1'u, G u = 1.
    """
    zero = np.diag(gram) == 0
    u = zero if zero.any() else solved(gram, np.ones(len(gram)))
    return u / u.sum()


def solved(gram: np.ndarray, b: Vector) -> Vector:
    """G^-1 b, G the inner products of vectors whose lengths may be far apart.

    They are scaled to length 1. Where they depend on each other an eigenvalue is 0, and is taken for what rounding
    leaves of one.
    """
    norms = np.sqrt(np.diag(gram))
    norms = np.where(norms > 0, norms, norms.max() or 1.0)
    values, axes = np.linalg.eigh(gram / np.outer(norms, norms))
    return axes @ (axes.T @ (b / norms) / np.maximum(values, len(gram) * np.finfo(float).eps)) / norms


def projection(x: Vector, total: float) -> Vector:
    """The nearest point to x that is not negative and has this sum (Duchi et al. 2008)."""
    ranked = np.sort(x)[::-1]
    surplus = (np.cumsum(ranked) - total) / np.arange(1, len(x) + 1)
    return np.maximum(x - surplus[np.flatnonzero(ranked - surplus >= 0)[-1]], 0)
