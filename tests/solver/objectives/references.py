"""The methods as their papers have them, on gradients (K, P) themselves and slowly: what weights are compared with."""

from __future__ import annotations

import numpy as np


def simplex_grid(k: int, steps: int) -> np.ndarray:
    """All points (n, K) of the simplex whose coordinates are multiples of 1 / steps."""
    if k == 1:
        return np.array([[steps]]) / steps
    found = [
        np.column_stack([np.full(len(rest), i / steps), rest * (1 - i / steps)])
        for i in range(steps + 1)
        for rest in [simplex_grid(k - 1, max(1, steps - i))]
    ]
    return np.concatenate(found)


def frank_wolfe(j: np.ndarray, rounds: int = 20000) -> np.ndarray:
    """MGDA's algorithm 2 (Sener and Koltun): the direction of least norm."""
    w = np.full(len(j), 1 / len(j))
    gram = j @ j.T
    for _ in range(rounds):
        t = np.argmin(gram @ w)
        toward = np.eye(len(j))[t] - w
        denominator = toward @ gram @ toward
        if denominator < 1e-18:
            break
        w = w + np.clip(-(toward @ gram @ w) / denominator, 0, 1) * toward
    return w @ j


def pcgrad(j: np.ndarray, order) -> np.ndarray:
    """Algorithm 1 of Yu et al."""
    total = np.zeros(j.shape[1])
    for i, others in enumerate(order):
        g = j[i].copy()
        for other in others:
            if g @ j[other] < 0:
                g -= (g @ j[other]) / (j[other] @ j[other]) * j[other]
        total += g
    return total


def gradvac(j: np.ndarray, targets: np.ndarray, order, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of Wang et al."""
    total, targets = np.zeros(j.shape[1]), targets.copy()
    for i, others in enumerate(order):
        g = j[i].copy()
        for other in others:
            h = j[other]
            phi, hoped = g @ h / (np.linalg.norm(g) * np.linalg.norm(h)), targets[i, other]
            if phi < hoped:
                top = np.linalg.norm(g) * (hoped * np.sqrt(1 - phi**2) - phi * np.sqrt(1 - hoped**2))
                g = g + top / (np.linalg.norm(h) * np.sqrt(1 - hoped**2)) * h
            targets[i, other] = (1 - beta) * hoped + beta * phi
        total += g
    return total, targets


def cagrad(j: np.ndarray, c: float, steps: int = 400) -> np.ndarray:
    """Algorithm 1 of Liu et al., w from a grid."""
    g0 = j.mean(axis=0)
    grid = simplex_grid(len(j), steps)
    gw = grid @ j
    value = gw @ g0 + c * np.linalg.norm(g0) * np.linalg.norm(gw, axis=1)
    best = gw[np.argmin(value)]
    return g0 + c * np.linalg.norm(g0) / np.linalg.norm(best) * best


def pe_ltr(j: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Equation 9 of Lin et al. with the inverse that it has, and the projection by bisection."""
    k = len(j)
    m = np.block([[j @ j.T, np.ones((k, 1))], [np.ones((1, k)), np.zeros((1, 1))]])
    right = np.concatenate([-j @ j.T @ c, [1 - c.sum()]])
    relaxed = (np.linalg.inv(m.T @ m) @ m.T @ right)[:k]
    low, high = relaxed.min() - 2, relaxed.max() + 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(relaxed - middle, 0).sum() > 1 - c.sum() else (low, middle)
    return np.maximum(relaxed - low, 0) + c
