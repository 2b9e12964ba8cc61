"""What the tests share: engines, golden files, layers built from a line of prototxt."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from caffepy.net.alone import Alone as Built

__all__ = ["ENGINES", "GOLDEN", "SHARED", "Built", "assert_close"]

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"
"""Complete recordings and data sets, present on the developers' machines alone."""

ENGINES = [name for name in ("numpy", "torch") if importlib.util.find_spec(name)]
if chosen := os.environ.get("CAFFEPY_TEST_ENGINES"):
    ENGINES = chosen.split(",")


def assert_close(ours, reference, tolerance: float = 1e-5, floor: float = 1e-3) -> None:
    """Equal shapes, and no difference above `tolerance` of the reference's largest value (at least `floor`)."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    if reference.size == 0:
        return
    both_nan = np.isnan(ours) & np.isnan(reference)
    difference = np.abs(np.where(both_nan | (ours == reference), 0, ours - reference))
    finite = np.abs(reference[np.isfinite(reference)])
    limit = tolerance * max(finite.max() if finite.size else 0, floor)
    worst = np.unravel_index(np.argmax(difference), difference.shape)
    assert difference[worst] <= limit, f"at {worst}: {ours[worst]} instead of {reference[worst]}, limit {limit:g}"
