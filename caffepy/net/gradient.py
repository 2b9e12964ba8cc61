"""Gradients by differences of the function itself, to compare with what a backward pass says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

STEP = 1e-2
"""Large, for functions that compute in single precision."""


class Differences(NamedTuple):
    """(f(x + h) - f(x)) / h and (f(x) - f(x - h)) / h, an entry for each entry of x."""

    right: np.ndarray
    left: np.ndarray

    @property
    def central(self) -> np.ndarray:
        return (self.right + self.left) / 2

    def kinks(self, slack: float) -> np.ndarray:
        """Where the two sides differ by more than `slack`: there the function has no gradient, or h is too large."""
        return np.abs(self.right - self.left) > slack


def differences(
    value: Callable[[], float], array: np.ndarray, step: float = STEP, at: Sequence[tuple[int, ...]] | None = None
) -> Differences:
    """Of the scalar function `value()` in the entries `at` of `array` (all of them), which change and change back."""
    indices = list(np.ndindex(array.shape)) if at is None else at
    here = value()
    right, left = np.zeros((2, len(indices)))
    for i, index in enumerate(indices):
        kept = array[index]
        array[index] = kept + step
        right[i] = (value() - here) / step
        array[index] = kept - step
        left[i] = (here - value()) / step
        array[index] = kept
    return Differences(right, left)


def numerical_gradient(value: Callable[[], float], array: np.ndarray, step: float = STEP) -> np.ndarray:
    """Central differences of the scalar function `value()` with respect to the entries of `array`."""
    return differences(value, array, step).central.reshape(array.shape)
