"""Convolution in torch: its own kernels over one to three axes, else one product a kernel position."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from caffepy.engine.window import Ints, Window

aten = torch.ops.aten


class ConvPlan(NamedTuple):
    """Of x (N, C, *size), w (O, C / group, *kernel) and y (N, O, *out)."""

    window: Window
    group: int
    channels: int
    outputs: int
    size: Ints
    out: Ints

    @staticmethod
    def of(x: Ints, w: Ints, window: Window, group: int) -> ConvPlan:
        return ConvPlan(window, group, x[1], w[0], x[2:], window.conv_shape(x[2:]))

    @property
    def in_torch(self) -> bool:
        return 1 <= len(self.size) <= 3

    @property
    def options(self) -> tuple:
        """Stride, pad, dilation, transposed, output padding, groups."""
        window = self.window
        return window.stride, window.pad, window.dilation, False, [0] * len(window.kernel), self.group

    def positions(self) -> Iterator[tuple[tuple, tuple, tuple]]:
        """(at of x, at of w, at of y) for every group and kernel position, such that the three multiply."""
        c, o = self.channels // self.group, self.outputs // self.group
        for g in range(self.group):
            for position in np.ndindex(*self.window.kernel):
                seen, cells = self.window.reach(position, self.size, self.out)
                inputs, produced = slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)
                yield (slice(None), inputs, *cells), (produced, slice(None), *position), (slice(None), produced, *seen)


def backward(dy: Tensor, x: Tensor, w: Tensor, plan: ConvPlan, wanted: tuple[bool, bool, bool]) -> tuple:
    """torch's gradients of x, w and the bias, where wanted; of the factor whose gradient that is, the shape counts."""
    return aten.convolution_backward(dy, x, w, None, *plan.options, wanted)


def is_wrong_in_torch(plan: ConvPlan) -> bool:
    """torch 2.13 on the CPU sums the gradients of weights wrongly then, differently from run to run."""
    return set(plan.window.kernel) == {1} and set(plan.window.stride) != {1}


def seen_by_points(x: Tensor, plan: ConvPlan) -> tuple[Tensor, ConvPlan]:
    """The cells of x that the windows of a 1 x 1 kernel see, and the convolution of stride 1 that sees them all."""
    axes = len(plan.size)
    seen = x.new_zeros(*x.shape[:2], *plan.out)
    outputs, cells = plan.window.reach((0,) * axes, plan.size, plan.out)
    seen[(..., *outputs)] = x[(..., *cells)]
    ones, zeros = (1,) * axes, (0,) * axes
    memory = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.contiguous_format)
    return seen.contiguous(memory_format=memory), plan._replace(window=Window(ones, ones, zeros, ones), size=plan.out)


def by_positions(x: Tensor, w: Tensor, y: Tensor, plan: ConvPlan) -> None:
    """y = cross-correlation of x with w."""
    y.zero_()
    for of_x, of_w, of_y in plan.positions():
        y[of_y] += torch.einsum("nc...,oc->no...", x[of_x], w[of_w])


def grad_weights_by_positions(x: Tensor, dy: Tensor, dw: Tensor, plan: ConvPlan) -> None:
    """dw += gradient of the weights."""
    for of_x, of_w, of_y in plan.positions():
        left, right = (a.movedim(1, 0).reshape(a.shape[1], prod(a.shape) // a.shape[1]) for a in (dy[of_y], x[of_x]))
        dw[of_w] += left @ right.T


def grad_data_by_positions(dy: Tensor, w: Tensor, dx: Tensor, plan: ConvPlan) -> None:
    """dx = gradient of the input."""
    dx.zero_()
    for of_x, of_w, of_y in plan.positions():
        dx[of_x] += torch.einsum("no...,oc->nc...", dy[of_y], w[of_w])
