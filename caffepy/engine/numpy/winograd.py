"""Convolution with fewer multiplications: Winograd's minimal filtering along the first spatial axis.

m outputs of a filter with k taps cost m + k - 1 products instead of m k (Winograd 1980; Lavin and Gray 2016):

    y = A^T [(G w) * (B^T x)]

with x the m + k - 1 rows that the outputs see. In one direction only, the rounding error stays a few times that of
the plain sum, where both directions would multiply it by ten. The other axes, if any, are lowered to columns as in a
plain convolution of one axis less. Rows of x go into the transform whole, so that it is a matrix product, too.

A stride s is s interleaved filters of k / s taps: rows are taken s at a time.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from caffepy.engine.numpy.filtering import POINTS, Filtering, filtering
from caffepy.engine.window import Ints, Window

# The least factor of multiplications saved that pays for the transforms, and the least depth of the products.
SAVING, DEPTH = 1.2, 12


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
