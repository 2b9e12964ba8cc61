"""Whether backward says what differences of forward say."""

from __future__ import annotations

import numpy as np

from caffepy.net.gradient import Differences, differences
from caffepy.show.checks.subject import FLOOR, Fails, Skipped, Subject, check_same, weights
from caffepy.solver.resume_file import from_json, to_json

TOLERANCE = 1e-2
POINTS = 200
"""Entries of an array that are varied at most."""


def gradient(subject: Subject, target: int) -> str:
    """Of the bottom or parameter of this number: central differences, but not at kinks, where the two sides differ."""
    alone = subject.build()
    count = len(alone.bottom)
    if not [*subject.wanted(alone.layer), *subject.trained(alone.layer)][target]:
        raise Skipped("it has none")
    blobs = [*alone.bottom, *alone.layer.blobs]
    hosts = [*subject.values(), *(np.array(blob.host()) for blob in alone.layer.blobs)]
    state = to_json(alone.layer.state())

    def forward() -> list[np.ndarray]:
        alone.layer.set_state(from_json(state))
        for blob, host in zip(blobs[count:], hosts[count:]):
            blob.fill(host)
        return [y.astype(float) for y in subject.forward(alone, hosts[:count])]

    first = forward()
    check_same(forward(), first, "the same pass with the same random seed", "the one before", 0)
    subject.backward(alone, first)  # raises where there is none
    forward()
    for blob in blobs:
        blob.diff[...] = 1
    alone.backward(*weights(first), propagate_down=subject.wanted(alone.layer))
    ours = np.array(blobs[target].host("diff"), float)
    points = list(np.ndindex(ours.shape))
    points = [points[i] for i in np.random.default_rng(5).permutation(len(points))[:POINTS]]
    pairs = weights(first)
    found = differences(lambda: sum(float(np.sum(w * y)) for w, y in zip(pairs, forward())), hosts[target], at=points)
    return _compare(np.array([ours[point] for point in points]), found, points, before=target >= count)


def _compare(ours: np.ndarray, found: Differences, points: list[tuple[int, ...]], before: bool) -> str:
    """`before` says whether the gradient is to be added to what was there before, 1 everywhere."""
    expected = found.central
    limit = TOLERANCE * max(float(np.abs(expected).max(initial=0)), FLOOR)
    smooth = ~found.kinks(2 * limit)  # where a kink could make the central difference wrong by more than the limit
    if not smooth.any():
        raise Fails(f"all {len(points)} points are at kinks: the differences of the two sides do not agree")

    def off(added: float) -> np.ndarray:
        return np.where(smooth, np.abs(ours - added - expected), 0)

    if off(before).max() > limit:
        if off(not before).max() <= limit:
            must = "add to what is there, and overwrites it" if before else "overwrite what is there, and adds to it"
            raise Fails(f"backward must {must}")
        worst = int(np.argmax(off(before)))
        raise Fails(
            f"at {points[worst]} backward gives {ours[worst] - before:.4g}, differences give {expected[worst]:.4g}"
        )
    kinks = len(points) - int(smooth.sum())
    return f"{len(points)} points" + (f", {kinks} of them left out at kinks" if kinks else "")
