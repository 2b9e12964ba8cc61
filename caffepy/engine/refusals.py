"""Wrong values that are found while they are still being computed: the error waits until somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from caffepy.errors import CaffeError

Array = Any


class SoughtValue(NamedTuple):
    """What a layer looks for in values of one shape."""

    found: Array
    """Whether a value was wrong, the index of the first and that value, as float64."""
    error: Callable[[int, float], CaffeError]


class Host(Protocol):
    """What of an engine is needed here."""

    xp: Any

    def to_host(self, array: Array) -> Any: ...


class Refusals:
    """The errors put off on one engine, by the layer that has found them.

    Each keeps its three numbers in the same memory for as long as the layer lives: a recorded graph writes there
    whenever it is repeated, though nobody calls `put_off` then.
    """

    def __init__(self, engine: Host):
        self._engine = engine
        self._of: WeakKeyDictionary[Any, dict[tuple[int, ...], SoughtValue]] = WeakKeyDictionary()

    def put_off(self, by: Any, wrong: Array, values: Array, error: Callable[[int, float], CaffeError]) -> None:
        """Note the first wrong entry, unless one of this shape is noted already. Nobody waits for a value."""
        xp, shape = self._engine.xp, tuple(values.shape)
        if not prod(shape):
            return
        flat = xp.reshape(wrong, (-1,))
        at = xp.argmax(xp.astype(flat, xp.uint8))
        value = xp.take(xp.reshape(values, (-1,)), xp.reshape(at, (1,)))[0]
        new = xp.stack([xp.astype(number, xp.float64) for number in (xp.any(flat), at, value)])
        of_shape = self._of.setdefault(by, {})
        found = of_shape[shape].found if shape in of_shape else xp.zeros_like(new)
        found[...] = xp.where(found[0] > 0, found, new)
        of_shape[shape] = SoughtValue(found, error)

    def settle(self, places: Mapping[Any, str]) -> None:
        """Raise the first error of these layers, in their order, at the layer's place; afterwards there is none."""
        waiting = [(refusal, place) for by, place in places.items() for refusal in self._of.get(by, {}).values()]
        if not waiting:
            return
        numbers = self._engine.to_host(self._engine.xp.stack([refusal.found for refusal, _ in waiting])).tolist()
        errors = []
        for (refusal, place), (wrong, i, value) in zip(waiting, numbers):
            if wrong:
                refusal.found[...] = 0
                errors.append(refusal.error(int(i), value).at(place))
        if errors:
            raise errors[0]
