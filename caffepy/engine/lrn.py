"""Local response normalization across channels in numpy, for tiles of shape (rows, channels) that stay in cache."""

from __future__ import annotations

import numpy as np


def window_sum(values: np.ndarray, size: int) -> np.ndarray:
    """Sum over `size` neighbouring channels, centred; channels outside count as 0."""
    channels, half = values.shape[-1], size // 2
    total = values.copy()
    for shift in range(1, min(half, channels - 1) + 1):
        total[:, shift:] += values[:, :-shift]
        total[:, :-shift] += values[:, shift:]
    return total


def power(base: np.ndarray, exponent: float) -> np.ndarray:
    """base ** exponent; the usual -0.75 as two square roots, a fifth of the time of a power."""
    if exponent == -0.75:
        root = np.sqrt(base)
        root *= np.sqrt(root)
        return np.reciprocal(root, out=root)
    return base**exponent


def scale(x: np.ndarray, size: int, alpha: float, k: float) -> np.ndarray:
    total = window_sum(x * x, size)
    total *= alpha / size
    total += k
    return total


def across(x, y, size: int, alpha: float, beta: float, k: float) -> None:
    """y = x (k + alpha / size * sum of squares)^-beta."""
    np.multiply(x, power(scale(x, size, alpha, k), -beta), out=y)


def across_grad(dy, x, dx, size: int, alpha: float, beta: float, k: float) -> None:
    """dx = dy s^-beta - 2 alpha beta / size * x * sum(dy y / s), where s is the scale and y = x s^-beta."""
    s = scale(x, size, alpha, k)
    direct = power(s, -beta)
    direct *= dy
    ratio = direct * x
    ratio /= s
    ratio = window_sum(ratio, size)
    ratio *= x
    ratio *= 2 * alpha * beta / size
    np.subtract(direct, ratio, out=dx)
