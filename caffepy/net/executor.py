"""What a net knows of how it runs: the interface of executors (`caffepy.passes`), and who is told of their passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Any

from caffepy.net.blob import Array, Blob

Look = Callable[[Array], Any]


def unseen(loss: Array) -> Array:
    """The loss as it is."""
    return loss


class Executor(ABC):
    """Runs a net's layers forward and backward. Calls from several threads wait for each other."""

    gradients: bool = True
    """Whether it can run backward."""

    @abstractmethod
    def together(self) -> list[list[int]]:
        """The layers of a forward pass; those that are never run one by one in one list."""

    @abstractmethod
    def forward(self, layers: Iterable[int] | None = None) -> Array:
        """Run these layers (all) in this order, shaping each where a bottom's shape has changed.

        Returns the weighted sum of the losses that they made.
        """

    @abstractmethod
    def backward(
        self,
        layers: Iterable[int] | None = None,
        *,
        losses: Collection[str] | None = None,
        params: Collection[Blob] | None = None,
    ) -> None:
        """Run these layers backward in this order, or all whose gradients are needed.

        Of all layers only those run that lead from the losses named (by their blobs) to the parameters given. So
        several backward passes, from one loss each, can follow one forward pass; gradients of parameters add up.
        Raises ConfigError where forward has not left what is needed, and for a loss that the net does not have.
        """

    def forward_backward(self, look: Look = unseen) -> Any:
        """One forward and one backward pass; what `look` makes of the loss, before the way back where it is there."""
        loss = look(self.forward())
        self.backward()
        return loss
