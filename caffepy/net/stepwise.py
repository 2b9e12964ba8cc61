"""Stepwise: layers that read a sequence in several passes, each going on where the one before has ended."""

from __future__ import annotations

from caffepy.net.blob import Array


class Stepwise:
    """What a layer that remembers earlier steps offers to those who make a sequence step by step.

        for layer in net.layers: layer.restart(capacity)   # of those that are Stepwise
        net.forward(...)   # some steps of N sequences, then the next ones, ...

    What is remembered is part of the layer's `state`.
    """

    def restart(self, capacity: int) -> None:
        """Forget what was before; from now on passes go on, over up to `capacity` steps in all. 0: they do not."""
        raise NotImplementedError

    def choose(self, index: Array) -> None:
        """Item i goes on from what item `index[i]` has seen, as in a search with beams; integers (N,)."""
        raise NotImplementedError

    def most_steps(self) -> int:
        """How many steps it can take in at all; 0: any number."""
        return 0
