"""Local response normalization across channels in torch, for rows of channels (M, C)."""

from __future__ import annotations

import torch
from torch import Tensor


def window_sum(values: Tensor, size: int) -> Tensor:
    """Sum over `size` neighbouring channels, centred; channels outside count as 0."""
    total = values.clone()
    for shift in range(1, min(size // 2, values.shape[1] - 1) + 1):
        total[:, shift:] += values[:, :-shift]
        total[:, :-shift] += values[:, shift:]
    return total


def power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent; the usual -0.75 by square roots, much cheaper than a power."""
    if exponent == -0.75:
        root = torch.rsqrt(base)
        return root * torch.sqrt(root)
    return base**exponent


def scale(x: Tensor, size: int, alpha: float, k: float) -> Tensor:
    return window_sum(x * x, size).mul_(alpha / size).add_(k)


def across(x: Tensor, y: Tensor, size: int, alpha: float, beta: float, k: float) -> None:
    """y = x (k + alpha / size * sum of squares)^-beta."""
    torch.mul(x, power(scale(x, size, alpha, k), -beta), out=y)


def across_grad(dy: Tensor, x: Tensor, dx: Tensor, size: int, alpha: float, beta: float, k: float) -> None:
    """dx = dy s^-beta - 2 alpha beta / size * x * sum(dy y / s), where s is the scale and y = x s^-beta."""
    s = scale(x, size, alpha, k)
    direct = power(s, -beta).mul_(dy)
    ratio = window_sum(direct * x / s, size).mul_(x)
    torch.sub(direct, ratio, alpha=2 * alpha * beta / size, out=dx)
