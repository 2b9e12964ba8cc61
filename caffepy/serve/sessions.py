"""Sessions: requests that go on where the one before has ended, their states kept between them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from caffepy.net.net import Net
from caffepy.net.stepwise import Stepwise
from caffepy.serve.engines import computed
from caffepy.serve.refusal import invalid
from caffepy.serve.signature import Arrays, Signature

CONT = "cont"
STEPS = 4096
"""Steps that attention can look back on in a session."""
MOST = 1000
"""Sessions that are kept; beyond, the one that has waited longest is forgotten."""
MEMORY = 1 << 30
"""Bytes that the states of a version's sessions may take together."""
IDLE = 600.0
"""Seconds after which a session is forgotten."""


class Kept(NamedTuple):
    shapes: dict[str, tuple[int, ...]]
    states: dict[str, dict[str, Any]]
    """By layer."""
    used: float

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(np.asarray(value).nbytes for state in self.states.values() for value in state.values())


def stepwise(net: Net) -> list[tuple[str, Any]]:
    """The layers of a net that remember earlier steps, by name."""
    return [(layer.name, layer) for layer in net.layers if isinstance(layer, Stepwise)]


def begin_anew(net: Net) -> None:
    """Forget what an earlier request has left in the net's layers."""
    for _, layer in stepwise(net):
        layer.restart(0)


class Sessions:
    """The sessions of a version, on a net of their own.

    An id that is not known begins a session. Its first pass begins the sequence, all later ones go on; an input `cont`
    may be left out and says just that. `run` may be called from several threads.
    """

    def __init__(self, net: Net):
        self._net, self._layers = net, stepwise(net)
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def run(
        self, session: str, signature: Signature, given: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> Arrays:
        """The blobs `outputs` after a pass of the session over inputs by their names. Raises Refused."""
        with self._lock:
            self._forget()
            kept = self._kept.get(session)
            feeds = signature.feeds(self._marked(signature, given, kept is None))
            shapes = {name: values.shape for name, values in feeds.items()}
            if kept and any(before[1:] != shapes[name][1:] for name, before in kept.shapes.items()):
                raise invalid(
                    f"the session began with inputs {kept.shapes}, now they are {shapes}",
                    "Only the number of steps may change; another id begins another session.",
                )
            found, states = self._pass(feeds, kept, outputs)
            self._keep(session, Kept(shapes, states, time.monotonic()))
            return found

    def _pass(
        self, feeds: Arrays, kept: Kept | None, outputs: Sequence[str]
    ) -> tuple[Arrays, dict[str, dict[str, Any]]]:
        for name, values in feeds.items():
            self._net.engine_blobs[name].reshape(values.shape)
        self._net.reshape()
        try:
            for name, layer in self._layers:
                layer.restart(min(STEPS, layer.most_steps() or STEPS))
                if kept:
                    layer.set_state(kept.states[name])
            found = computed(self._net, feeds, outputs)
            return found, {name: layer.state() for name, layer in self._layers}
        finally:
            begin_anew(self._net)

    @staticmethod
    def _marked(signature: Signature, given: Mapping[str, np.ndarray], begins: bool) -> Mapping[str, np.ndarray]:
        """The inputs, with markers where the client leaves them out: of the first input's shape."""
        if CONT in given or CONT not in {tensor.name for tensor in signature.inputs} or not given:
            return given
        cont = np.ones(next(iter(given.values())).shape, np.float32)
        if begins and cont.ndim:
            cont[:1] = 0
        return {**given, CONT: cont}

    def _keep(self, session: str, kept: Kept) -> None:
        before = self._kept.pop(session, None)
        self._kept[session] = kept
        self._bytes += kept.size - (before.size if before else 0)
        while len(self._kept) > MOST or (self._bytes > MEMORY and len(self._kept) > 1):
            self._drop()

    def _forget(self) -> None:
        oldest = time.monotonic() - IDLE
        while self._kept and next(iter(self._kept.values())).used < oldest:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= self._kept.popitem(last=False)[1].size
