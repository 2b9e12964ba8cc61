"""Pooling in torch. torch's own kernels where their windows are Caffe's, else the same over an explicit border.

`choice` is the index within H * W that a window's value came from, -1 where there is none.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffepy.engine.window import Ints, Window

aten = torch.ops.aten
FLOAT_MAX = torch.finfo(torch.float32).max


class PoolPlan:
    """What pooling x (N, C, H, W) to y (N, C, h, w) needs to know; it serves any number of images."""

    def __init__(self, x: Ints, y: Ints, window: Window, device: torch.device):
        self.shape, self.window = y, window
        self.size, self.out = x[2:], y[2:]
        self.options = options(window, self.size, self.out)
        self.border = border(window, self.size, self.out)
        self._device = device

    @cached_property
    def areas(self) -> Tensor:
        """Cells of each window before in + pad, padding included: (h, w), made on the device: a copy would wait."""
        spans = []
        for n, m, k, s, p in zip(self.size, self.out, self.window.kernel, self.window.stride, self.window.pad):
            start = torch.arange(m, device=self._device) * s - p
            spans.append((start + k).clamp_max(n + p) - start)
        return torch.outer(*spans).to(torch.float32)


def options(window: Window, size: Ints, out: Ints) -> tuple | None:
    """Kernel, stride, pad for torch, and whether its ceil mode, where its windows are Caffe's; else None.

    torch refuses a pad above half the kernel, and drops windows that start behind the input's padding, which Caffe
    keeps if there is no padding at all.
    """
    if any(2 * p > k for p, k in zip(window.pad, window.kernel)):
        return None
    spans = [n + 2 * p - k for n, p, k in zip(size, window.pad, window.kernel)]
    if any(span < 0 for span in spans):
        return None
    if all(span // s + 1 == m for span, s, m in zip(spans, window.stride, out)):
        return window.kernel, window.stride, window.pad, False
    shape = []
    for n, p, s, span in zip(size, window.pad, window.stride, spans):
        m = -(-span // s) + 1
        shape.append(m - 1 if (m - 1) * s >= n + p else m)
    return (window.kernel, window.stride, window.pad, True) if tuple(shape) == out else None


def writable(x: Tensor, *outputs: Tensor) -> bool:
    """Whether torch may pool x straight into these: on a GPU it takes all of them to have one memory order."""
    every = (x, *outputs)
    return x.device.type == "cpu" or all(a.is_contiguous(memory_format=torch.channels_last) for a in every)


def border(window: Window, size: Ints, out: Ints) -> Ints:
    """F.pad's widths (left, right, top, bottom) so that every window of `out` fits; the far ones may be negative."""
    widths: list[int] = []
    for n, m, k, s, p in zip(size, out, window.kernel, window.stride, window.pad):
        widths = [p, (m - 1) * s + k - n - p, *widths]
    return tuple(widths)


def max_pool(x: Tensor, y: Tensor, choice: Tensor, plan: PoolPlan) -> None:
    """Largest value of each window; the first in row order wins a tie, as in Caffe."""
    if not y.numel():
        return
    if plan.options and writable(x, y, choice):
        kernel, stride, pad, ceil = plan.options
        aten.max_pool2d_with_indices.out(x, kernel, stride, pad, (1, 1), ceil, out=y, indices=choice)
        return
    widths = plan.border
    bordered = F.pad(x, widths, value=-FLOAT_MAX)
    values, index = F.max_pool2d(bordered, plan.window.kernel, plan.window.stride, return_indices=True)
    y.copy_(values)
    width = bordered.shape[3]
    row, column = index // width - widths[2], index % width - widths[0]
    choice.copy_(torch.where(values == -FLOAT_MAX, -1, row * plan.size[1] + column))


def max_pool_grad(dy: Tensor, choice: Tensor, dx: Tensor, plan: PoolPlan) -> None:
    """Each gradient goes where its value came from."""
    if not dy.numel():
        dx.zero_()
        return
    if plan.options and writable(choice, dx):
        kernel, stride, pad, ceil = plan.options
        # dx, in the place of the input, gives the shape alone.
        arguments = (dy, dx, kernel, stride, pad, (1, 1), ceil, choice)
        aten.max_pool2d_with_indices_backward.grad_input(*arguments, grad_input=dx)
        return
    dx.zero_()
    n, c, height, width = dx.shape
    target = dx.permute(0, 2, 3, 1).reshape(n, height * width, c)
    index, share = (a.permute(0, 2, 3, 1).reshape(n, -1, c) for a in (choice, dy))
    target.scatter_add_(1, index.clamp_min(0), share * (index >= 0))
    if target.data_ptr() != dx.data_ptr():  # dx is not stored channels-last
        dx.copy_(target.reshape(n, height, width, c).permute(0, 3, 1, 2))


def ave_pool(x: Tensor, y: Tensor, plan: PoolPlan) -> None:
    """Sum of each window over its area cut at in + pad."""
    if plan.options and writable(x, y):
        aten.avg_pool2d.out(x, *plan.options, out=y)
    else:
        y.copy_(window_sum(x, plan) / plan.areas)


def ave_pool_grad(dy: Tensor, dx: Tensor, plan: PoolPlan) -> None:
    if plan.options:
        aten.avg_pool2d_backward.grad_input(dy, dx, *plan.options, True, None, grad_input=dx)
        return
    kernel, stride = plan.window.kernel, plan.window.stride
    bordered = F.pad(dx, plan.border)
    spread = aten.avg_pool2d_backward(dy / plan.areas, bordered, kernel, stride, (0, 0), False, True, 1)
    dx.copy_(F.pad(spread, [-width for width in plan.border]))


def stochastic_draw(x: Tensor, y: Tensor, choice: Tensor, level: Tensor, plan: PoolPlan) -> None:
    """The first value of each window whose running sum reaches `level` times the window's sum.

    x is not negative (Zeiler and Fergus 2013; Caffe's GPU kernel).
    """
    size, out = plan.size, plan.out
    threshold = level * window_sum(x, plan)
    y.zero_()
    choice.fill_(-1)
    total = torch.zeros_like(y)
    index = torch.arange(size[0] * size[1], device=x.device).reshape(size)
    for position in np.ndindex(*plan.window.kernel):
        outputs, cells = plan.window.reach(position, size, out)
        at, values = (..., *outputs), x[(..., *cells)]
        total[at] += values
        reached = (total[at] >= threshold[at]) & (choice[at] < 0)
        y[at] = torch.where(reached, values, y[at])
        choice[at] = torch.where(reached, index[cells], choice[at])


def stochastic_mean(x: Tensor, y: Tensor, plan: PoolPlan) -> None:
    """sum x^2 / sum x of each window, 0 where the sum is not positive."""
    total = window_sum(x, plan)
    y.copy_(torch.where(total > 0, window_sum(x * x, plan) / total, 0.0))


def window_sum(x: Tensor, plan: PoolPlan) -> Tensor:
    return F.avg_pool2d(F.pad(x, plan.border), plan.window.kernel, plan.window.stride, divisor_override=1)
