"""Local response normalization across channels in numpy, for tiles of shape (rows, channels) that stay in cache."""

from __future__ import annotations

import numpy as np

from caffepy.engine.power import inverse_power


def window_sum(values: np.ndarray, other: np.ndarray, size: int) -> np.ndarray:
    """Sum of values * other over `size` neighbouring channels, centred; channels outside count as 0.

    Rows of `channels + size - 1`, of which the first `channels` count: zeros lie between the rows, so that one shift
    serves all of them and numpy's inner loop runs over the tile, not over the channels of one position.
    """
    rows, channels = values.shape
    size = min(size, 2 * channels - 1)  # more channels than there are to either side
    padded = np.zeros((rows + 1, channels + size - 1), values.dtype)
    np.multiply(values, other, out=padded[:rows, size // 2 : size // 2 + channels])
    flat, length = padded.reshape(-1), rows * padded.shape[1]
    total = flat[:length] + flat[1 : length + 1] if size > 1 else flat[:length]
    for shift in range(2, size):
        total += flat[shift : length + shift]
    return total.reshape(rows, -1)


def scale(x: np.ndarray, size: int, alpha: float, k: float) -> np.ndarray:
    """k + alpha / size * sum of squares, in rows as `window_sum` has them."""
    total = window_sum(x, x, size)
    total *= alpha / size
    total += k
    return total


def across(x, y, size: int, alpha: float, beta: float, k: float) -> None:
    """y = x (k + alpha / size * sum of squares)^-beta."""
    np.multiply(x, inverse_power(np, scale(x, size, alpha, k), beta)[:, : x.shape[1]], out=y)


def across_grad(dy, x, dx, size: int, alpha: float, beta: float, k: float) -> None:
    """dx = dy s^-beta - 2 alpha beta / size * x * sum(dy y / s), where s is the scale and y = x s^-beta."""
    channels = x.shape[1]
    s = scale(x, size, alpha, k)
    power = inverse_power(np, s, beta)
    direct = dy * power[:, :channels]
    np.divide(power, s, out=s)
    s[:, :channels] *= dy
    through = window_sum(s[:, :channels], x, size)
    through *= -2 * alpha * beta / size
    np.multiply(through[:, :channels], x, out=dx)
    dx += direct
