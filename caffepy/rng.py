"""Streams of random numbers: the process's own, as Caffe has one, and one of its own for each solver.

    with rng.use(solver.random):
        rng.draw()  # the solver's next number

A stream is MT19937 with the classic 32-bit seeding, so layers that seed their own generator from it (cropping,
mirroring, window choice) draw the numbers that Caffe draws. `seed`, `draw` and `generator` are those of the stream in
use: the process's, unless `use` says otherwise in this thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np


class Stream:
    """Random numbers that depend on nothing but the seed and what was drawn before; without a seed on chance."""

    def __init__(self, seed: int | None = None):
        self._branches: WeakSet[Stream] = WeakSet()
        self._begin()
        if seed is not None:
            self.seed(seed)

    def _begin(self) -> None:
        self._bits: np.random.BitGenerator = np.random.MT19937()
        self._generator, self._of = np.random.Generator(self._bits), os.getpid()

    @property
    def generator(self) -> np.random.Generator:
        """For numbers other than 32-bit ones; it draws from this stream."""
        if self._of != os.getpid():  # a forked process: another thread may have drawn, and holds numpy's lock for ever
            state = self._bits.state
            self._begin()
            self._bits.state = state
        return self._generator

    def seed(self, value: int) -> None:
        """Start over from `value`, taken modulo 2**32; branches do, too."""
        self._bits.state = np.random.RandomState(value % 2**32).get_state(legacy=False)
        for branch in list(self._branches):
            branch.seed(value)

    def branch(self) -> Stream:
        """Another stream that goes on from here. What one draws changes nothing in the other."""
        branch = Stream()
        branch.state = self.state
        self._branches.add(branch)
        return branch

    def draw(self) -> int:
        """The next 32-bit number."""
        return int(self.generator.bit_generator.random_raw())

    @property
    def state(self) -> Mapping[str, Any]:
        """Where the stream is; assigned, it goes on from there."""
        return self._bits.state

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._bits.state = state


_in_use: ContextVar[Stream] = ContextVar("caffepy.rng", default=Stream())  # noqa: B039

if TYPE_CHECKING:
    generator: np.random.Generator


def current() -> Stream:
    """The stream in use."""
    return _in_use.get()


@contextmanager
def use(stream: Stream) -> Iterator[None]:
    """Within the block, in this thread, random numbers come from `stream`."""
    before = _in_use.set(stream)
    try:
        yield
    finally:
        _in_use.reset(before)


def seed(value: int) -> None:
    """Start the stream in use over from `value`, taken modulo 2**32."""
    current().seed(value)


def draw() -> int:
    """The next 32-bit number of the stream in use."""
    return current().draw()


def mt19937(value: int) -> np.random.Generator:
    """A generator of one's own, seeded as boost::mt19937 is."""
    return Stream(value).generator


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "generator":
            return current().generator
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
