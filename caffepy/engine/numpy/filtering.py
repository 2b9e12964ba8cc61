"""Winograd's minimal filtering: its matrices, by the construction of Toom and Cook."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

# Where the polynomials are evaluated, beside infinity. Small, and few of one sign: the error grows with them.
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2), Fraction(-2), Fraction(1, 2))


class Filtering(NamedTuple):
    """The matrices of m outputs of k taps, n = m + k - 1: A^T (m, n), G (n, k), B^T (n, n)."""

    outputs: np.ndarray
    weights: np.ndarray
    inputs: np.ndarray


@cache
def filtering(m: int, k: int) -> Filtering:
    """The construction of Toom and Cook from POINTS and infinity."""
    points = POINTS[: m + k - 2]
    others = [points[:i] + points[i + 1 :] for i in range(len(points))]
    at_points = [[p**i for p in points] + [Fraction(i == m - 1)] for i in range(m)]
    weights = [
        [p**i / prod((p - q for q in rest), start=Fraction(1)) for i in range(k)] for p, rest in zip(points, others)
    ]
    weights.append([Fraction(i == k - 1) for i in range(k)])
    inputs = [[*_polynomial(rest), Fraction(0)] for rest in others] + [_polynomial(points)]
    return Filtering(*(np.array(matrix, float).astype(np.float32) for matrix in (at_points, weights, inputs)))


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)])]
    return coefficients
