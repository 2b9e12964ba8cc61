"""A power that layers and engines compute alike."""

from __future__ import annotations


def inverse_power(xp, base, exponent: float):
    """base ** -exponent on any engine's arrays; the usual 0.75 as two square roots, a fifth of the time of a power."""
    if exponent == 0.75:
        root = xp.sqrt(base)
        return 1 / (root * xp.sqrt(root))
    return base**-exponent
