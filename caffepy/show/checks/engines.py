"""Whether a layer computes the same on both engines."""

from __future__ import annotations

from collections.abc import Sequence

from caffepy import rng
from caffepy.show.checks.subject import Skipped, Subject, check_same


def same_numbers(subjects: Sequence[Subject]) -> str:
    """The same values and gradients for each subject."""
    results = []
    for subject in subjects:
        alone = subject.build()
        values = subject.forward(alone)
        if _random_numbers_were_drawn():
            raise Skipped("the layer draws random numbers, and each engine has its own")
        try:
            results.append(values + subject.backward(alone, values))
        except Skipped:
            results.append(values)
    for subject, result in zip(subjects[1:], results[1:]):
        check_same(result, results[0], subject.engine.name, subjects[0].engine.name, 1e-4)
    return "the same values and gradients"


def _random_numbers_were_drawn() -> bool:
    """Since the seed that `Subject.forward` sets."""
    following = rng.draw()
    rng.seed(3)
    return rng.draw() != following
