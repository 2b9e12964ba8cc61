"""Convolution with fewer multiplications: Winograd's minimal filtering along the first spatial axis.

m outputs of a filter with k taps cost m + k - 1 products instead of m k (Winograd 1980; Lavin and Gray 2016):

    y = A^T [(G w) * (B^T x)]

with x the m + k - 1 rows that the outputs see. In one direction only, the rounding error stays a few times that of
the plain sum, where both directions would multiply it by ten. The other axes, if any, are lowered to columns as in a
plain convolution of one axis less. Rows of x go into the transform whole, so that it is a matrix product, too.

A stride s is s interleaved filters of k / s taps: rows are taken s at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

from caffepy.engine.window import Ints, Window

# Where the polynomials are evaluated, beside infinity. Small, and few of one sign: the error grows with them.
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2), Fraction(-2), Fraction(1, 2))
# The least factor of multiplications saved that pays for the transforms, and the least depth of the products.
SAVING, DEPTH = 1.2, 12


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


class WinogradPlan(NamedTuple):
    """How a convolution is filtered: `m` outputs at a time, `taps` of `stride` rows each."""

    m: int
    taps: int
    stride: int
    pad: int
    groups_of_rows: int
    rest: Window
    """Of the other axes; with a stride, of the s interleaved rows and the other axes."""
    rest_out: Ints
    matrices: Filtering

    @property
    def n(self) -> int:
        return self.m + self.taps - 1


def plan(window: Window, out: Ints, channels: int) -> WinogradPlan | None:
    """The filtering that saves most, or None if a plain convolution is better. `channels` are those of a group."""
    if not out or window.dilation[0] != 1 or window.kernel[0] == 1 or 0 in out:
        return None
    kernel, stride = window.kernel[0], window.stride[0]
    taps = -(-kernel // stride)
    if taps == 1 or stride * prod(window.kernel[1:]) * channels < DEPTH:
        return None
    products = {m: -(-out[0] // m) * (m + taps - 1) * stride for m in range(2, len(POINTS) + 3 - taps)}
    if not products or out[0] * kernel < SAVING * min(products.values()):
        return None
    m = min(products, key=products.__getitem__)
    rest = Window(*(field[1:] for field in window))
    if stride > 1:
        rest = Window((stride, *rest.kernel), (1, *rest.stride), (0, *rest.pad), (1, *rest.dilation))
    rest_out = (1, *out[1:]) if stride > 1 else out[1:]
    return WinogradPlan(m, taps, stride, window.pad[0], -(-out[0] // m), rest, rest_out, filtering(m, taps))
