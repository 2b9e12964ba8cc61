"""The listeners of a solver, in the order in which they are told, and what snapshots keep of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any

from caffepy.errors import CaffeError, SnapshotError, described
from caffepy.solver.events import Listener


class Listeners(MutableSequence[Listener]):
    """A list. What a snapshot has of a listener goes to it when that is restored, or when the listener is added.

    Listeners have a state under their name; a second one of this name under `name/1`, and so on in their order.
    """

    def __init__(self) -> None:
        self._all: list[Listener] = []
        self._kept: dict[str, Any] = {}  # of a snapshot what no listener has taken yet

    def __getitem__(self, i: Any) -> Any:
        return self._all[i]

    def __setitem__(self, i: Any, value: Any) -> None:
        self._all[i] = value
        self._hand_over()

    def __delitem__(self, i: Any) -> None:
        del self._all[i]

    def __len__(self) -> int:
        return len(self._all)

    def insert(self, index: int, value: Listener) -> None:
        self._all.insert(index, value)
        self._hand_over()

    def replace(self, others: Iterable[Listener]) -> None:
        """Let these be all."""
        self[:] = list(others)

    def state(self) -> dict[str, Any]:
        """Raises SnapshotError where a listener fails to say its own."""
        return {name: _state(name, listener) for name, listener in self.named()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Raises SnapshotError where a listener cannot go on from what is there."""
        self._kept = dict(state)
        self._hand_over()

    def begin(self) -> None:
        """Training goes on: who comes later begins anew."""
        self._kept = {}

    def named(self) -> Iterator[tuple[str, Listener]]:
        """Those that have a name, each with one of its own."""
        counts: dict[str, int] = {}
        for listener in self._all:
            if name := listener.name:
                number = counts[name] = counts.get(name, -1) + 1
                yield f"{name}/{number}" if number else name, listener

    def _hand_over(self) -> None:
        for name, listener in list(self.named()):
            if name in self._kept:
                state = self._kept.pop(name)
                try:
                    listener.set_state(state)
                except CaffeError:
                    raise
                except Exception as error:
                    problem = f'the state of listener "{name}" is not one of this listener: {described(error)}'
                    raise SnapshotError(problem) from error


def _state(name: str, listener: Listener) -> Any:
    try:
        return listener.state()
    except CaffeError:
        raise
    except Exception as error:
        raise SnapshotError(f'the state of listener "{name}" cannot be had: {described(error)}') from error
