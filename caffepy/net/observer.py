"""Who is told of layers that run."""

from __future__ import annotations

from collections.abc import Sequence


class Observer:
    """Is told of a net's passes once it is in `net.observers`; observers are told in the order of that list.

    `layers` are indices in the order in which they run. What is told of layers comes before and after each stretch of
    them that runs together, so that nothing runs slower for it; where it `sees_each_layer` before and after each one.
    """

    every_layer: bool = False

    def sees_each_layer(self, backward: bool) -> bool:
        """Whether the layers of such a pass must run one by one for it: `every_layer`, of either kind of pass."""
        return self.every_layer

    @property
    def sees_layers(self) -> bool:
        """Whether it is told of layers, not of passes alone."""
        mine = type(self)
        return (mine.before_layers, mine.after_layers) != (Observer.before_layers, Observer.after_layers)

    def before_pass(self, layers: Sequence[int], backward: bool) -> None:
        """A pass over these layers begins."""

    def after_pass(self, layers: Sequence[int], backward: bool) -> None:
        """A pass over these layers has ended, without an error."""

    def before_layers(self, layers: Sequence[int], backward: bool) -> None:
        """These layers are about to run."""

    def after_layers(self, layers: Sequence[int], backward: bool) -> None:
        """These layers have run."""
