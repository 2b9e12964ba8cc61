"""Recorded: forward and backward passes as one recorded CUDA graph, for nets whose shapes never change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.net.executor import Look, unseen
from caffepy.net.layer import Layer
from caffepy.net.net import Net
from caffepy.passes.whole import Told, Whole

log = logging.getLogger(__name__)

WARM_UP = 3
"""Passes before the recording, in which buffers are allocated and kernels chosen."""

Record = Callable[[Any, Callable[[], Any]], Callable[[], Any]]


def is_source(layer: Layer) -> bool:
    """Whether the layer brings data from the host."""
    return layer.type != "Input" and not layer.bottom_names and not layer.blobs


class Recorded(Whole):
    """Runs a net's passes: sources as ever, into the memory of their tops, then all other layers as one graph.

    The first passes run as ever, too. So do those for which something wants to look: an observer of layers,
    `debug_info`, an input or a top of a source with a new shape. What cannot be recorded is never tried again. `record`
    is the engine's; tests replace it.
    """

    def __init__(self, net: Net, record: Record | None = None):
        super().__init__(net)
        if record is None and not net.engine.records:
            raise ConfigError("a CUDA graph needs a GPU", hint="Leave it out, or add --gpu 0.")
        self._record: Record = record or type(net.engine).record
        self.sources = [i for i, layer in enumerate(net.layers) if is_source(layer)]
        self.rest = [i for i in range(len(net.nodes)) if i not in set(self.sources)]
        self.problem = next(
            (f'layer "{layer.name}" ({layer.type}) cannot be recorded' for layer in net.layers if not layer.recordable),
            "",
        )
        self._runs = 0
        self._shapes: list[tuple[int, ...]] = []
        self._repeat: Callable[[], Any] | None = None
        if self.problem:
            log.warning("No CUDA graph: %s", self.problem)

    def forward_backward(self, look: Look = unseen) -> Any:
        """One forward and one backward pass; the loss.

        A GPU's random numbers are seeded once, plain or recorded: a resumed run, which records anew, draws the same.
        """
        with self._net.lock, rng.use(self._net.random), self._net.engine.seeded_once():
            return self._forward_backward(look)

    def _forward_backward(self, look: Look) -> Any:
        net = self._net
        if self.problem or net.param.debug_info or any(observer.sees_layers for observer in net.observers):
            return super().forward_backward(look)
        every, usual = self.usual(False), self.usual(True)
        with self._pass(every, False) as told:
            loss = self._run_forward(self.sources, told)
            again = self._recording()
            # The result lies in the graph's own memory, which the next run overwrites.
            loss = loss + (self._rest() if again is None else net.engine.copy(again()))
        with self._pass(usual, True):
            pass  # its layers have run with the others
        return look(loss)

    def _recording(self) -> Callable[[], Any] | None:
        """The graph of all layers but the sources, for the shapes of now; None where they run as ever."""
        nodes = self._net.nodes
        shapes = [blob.shape for node in nodes if not node.bottom_names for blob in node.top]
        if shapes != self._shapes:
            self._shapes, self._repeat, self._runs = shapes, None, 0
        self._runs += 1
        if self._repeat is None and self._runs > WARM_UP and not self.problem:
            self._repeat = self._recorded()
        return self._repeat

    def _rest(self) -> Any:
        loss = self._run_forward(self.rest, Told([], False))
        self._run_backward(self.usual(True), {}, Told([], True))
        return loss

    def _recorded(self) -> Callable[[], Any] | None:
        try:
            repeat = self._record(self._net.engine, self._rest)
        except RuntimeError as error:
            self.problem = str(error).splitlines()[0]
            log.warning("No CUDA graph: %s", self.problem)
            return None
        log.info("Recorded the passes of %d layers as a CUDA graph", len(self.rest))
        return repeat
