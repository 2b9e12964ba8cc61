"""Forward and backward passes as one recorded CUDA graph, for nets whose shapes never change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.net.layer import Layer
from caffepy.net.net import Net

log = logging.getLogger(__name__)

# These run Python code, look at values on the host, or make tops of another shape each time.
UNRECORDABLE = {
    "BoxAnnotatorOHEM", "DetectionEvaluate", "DetectionOutput", "Filter", "HDF5Output", "MultiBoxLoss", "PSROIPooling",
    "Proposal", "Python", "ROIAlign", "ROIPooling",
}  # fmt: skip
WARM_UP = 3
"""Passes before the recording, in which buffers are allocated and kernels chosen."""

Record = Callable[[Any, Callable[[], Any]], Callable[[], Any]]


def is_source(layer: Layer) -> bool:
    """Whether the layer brings data from the host."""
    return layer.type != "Input" and not layer.bottom_names and not layer.blobs


class RecordedPasses:
    """Runs a net's passes: sources as ever, into the memory of their tops, then all other layers as one graph.

    The first passes run as ever, too. So do those for which something wants to look: a hook on the net, `debug_info`,
    an input or a top of a source with a new shape. What cannot be recorded is never tried again. `record` is
    `engine.torch_graph.record`; tests replace it.
    """

    def __init__(self, net: Net, record: Record | None = None):
        if record is None:
            if not getattr(net.engine, "on_gpu", False):
                raise ConfigError("a CUDA graph needs a GPU", hint="Leave it out, or add --gpu 0.")
            from caffepy.engine.torch import graph as torch_graph

            record = torch_graph.record
        self.net = net
        self._record: Record = record
        self.sources = [i for i, layer in enumerate(net.layers) if is_source(layer)]
        self.rest = [i for i in range(len(net.layers)) if i not in set(self.sources)]
        self.problem = next(
            (
                f'layer "{layer.name}" ({layer.type}) cannot be recorded'
                for layer in net.layers
                if layer.type in UNRECORDABLE
            ),
            "",
        )
        self._runs = 0
        self._shapes: list[tuple[int, ...]] = []
        self._repeat: Callable[[], Any] | None = None
        if self.problem:
            log.warning("No CUDA graph: %s", self.problem)

    def run(self) -> Any:
        """One forward and one backward pass; the loss.

        A GPU's random numbers are seeded once, plain or recorded: a resumed run, which records anew, draws the same.
        """
        engine: Any = self.net.engine
        if getattr(engine, "generator", None) is None:
            return self._run()
        engine.generator.manual_seed(rng.draw())
        engine.seeds_each = False
        try:
            return self._run()
        finally:
            engine.seeds_each = True

    def _run(self) -> Any:
        net = self.net
        if self.problem or net.param.debug_info or any(net.hooks.values()):
            return net.forward_backward()
        loss = net.forward_layers(self.sources)
        shapes = [blob.shape for layer, tops in zip(net.layers, net.tops) if not layer.bottom_names for blob in tops]
        if shapes != self._shapes:
            self._shapes, self._repeat, self._runs = shapes, None, 0
        self._runs += 1
        if self._repeat is None and self._runs > WARM_UP:
            self._repeat = self._recorded()
        if self._repeat is not None:
            # The result lies in the graph's own memory, which the next run overwrites.
            return loss + net.engine.copy(self._repeat())
        return loss + self._rest()

    def _rest(self) -> Any:
        loss = self.net.forward_layers(self.rest)
        self.net.backward_from_to()
        return loss

    def _recorded(self) -> Callable[[], Any] | None:
        try:
            repeat = self._record(self.net.engine, self._rest)
        except RuntimeError as error:
            self.problem = str(error).splitlines()[0]
            log.warning("No CUDA graph: %s", self.problem)
            return None
        log.info("Recorded the passes of %d layers as a CUDA graph", len(self.rest))
        return repeat
