"""The rows that tables for training, validation and test get."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ConfigError

PARTS = ("train", "val", "test")


def parts(text: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """The rows of each part, "60,20,20" of them after a permutation by `numpy.random.default_rng(seed)`.

    Two shares are train and test; without any all rows are train, in their order.
    """
    if seed < 0:
        raise ConfigError(f"--seed must be at least 0, got {seed}")
    order = np.random.default_rng(seed).permutation(count) if text else np.arange(count)
    return {part: order[a:b] for part, (a, b) in bounds(text, count).items()}


def bounds(text: str, count: int) -> dict[str, tuple[int, int]]:
    """The name of each part, and where it begins and ends: shares "60,20,20" of `count`, as `parts`."""
    if not text:
        return {"train": (0, count)}
    try:
        shares = np.array([float(share) for share in text.split(",")])
    except ValueError:
        shares = np.zeros(0)
    if len(shares) not in (2, 3) or (shares <= 0).any():
        raise ConfigError(f'--split takes two or three shares, got "{text}"', hint="--split 60,20,20")
    names = PARTS if len(shares) == 3 else (PARTS[0], PARTS[2])
    cuts = np.floor(np.cumsum(shares)[:-1] / shares.sum() * count + 1e-9).astype(int).tolist()
    if not cuts[0]:
        raise ConfigError(f'--split "{text}" leaves none of {count} row(s) to train on')
    return dict(zip(names, zip([0, *cuts], [*cuts, count])))
