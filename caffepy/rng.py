"""The process-wide random numbers, as Caffe has one generator that `random_seed` seeds.

It is MT19937 with the classic 32-bit seeding, so layers that seed their own generator from it (cropping, mirroring,
window choice) draw the numbers that Caffe draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_bits: np.random.BitGenerator = np.random.MT19937()
generator = np.random.Generator(_bits)


def seed(value: int) -> None:
    """Start over from `value`, taken modulo 2**32."""
    _bits.state = mt19937(value).bit_generator.state


def draw() -> int:
    """The next 32-bit number."""
    return int(_bits.random_raw())


def mt19937(value: int) -> np.random.Generator:
    """A generator of one's own, seeded as boost::mt19937 is."""
    bits: np.random.BitGenerator = np.random.MT19937()
    bits.state = np.random.RandomState(value % 2**32).get_state(legacy=False)
    return np.random.Generator(bits)


def get_state() -> Mapping[str, Any]:
    return _bits.state


def set_state(state: Mapping[str, Any]) -> None:
    _bits.state = state


class _Default:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def current() -> _Default:
    return _Default()
