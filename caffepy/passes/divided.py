"""A batch in parts: stretches of layers that compute item by item, each part of the batch in a process of its own.

Threads of one Python process wait for each other at the end of every layer, and for the interpreter lock after every
call of numpy. Processes go through a whole stretch of layers without waiting. The parts are the same where processes
cannot be had and threads compute them: same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import proxy

from caffepy.engine.numpy import memory
from caffepy.engine.workers import Workers
from caffepy.errors import CaffeError, ConfigError
from caffepy.layers.split import add
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer

if TYPE_CHECKING:
    from caffepy.net.net import Net

log = logging.getLogger(__name__)

# Elements of all tops of a stretch below which dividing the batch does not pay.
LEAST_ELEMENTS = 1 << 17
# Parameters of a layer above which it is not divided. Every part but the first has gradients of its own for them, which
# cost memory, and products with that many weights keep threads busy without waiting.
MOST_PARAMETERS = 1 << 20
# Passes that threads run before workers are forked: a net that runs once needs none.
PASSES_ALONE = 1


def divisible(layer: Layer) -> bool:
    """Whether a layer is divided: one of ours, or one whose own class, not a base of it, says that it may be."""
    said_itself = "divisible" in vars(type(layer)) or type(layer).__module__.startswith("caffepy.layers.")
    return said_itself and layer.divisible() and sum(blob.count for blob in layer.blobs) <= MOST_PARAMETERS


class Step(NamedTuple):
    """A copy of a layer, with its blobs cut to the items of a part."""

    layer: Layer
    bottom: list[Blob]
    top: list[Blob]
    need_backward: list[bool]
    place: str


class Part:
    """Some items of the batch, seen by copies of a net's layers.

    The first part adds to the parameters' gradients themselves, each other to `gradients`, by id of the parameter.
    """

    def __init__(self, net: Net, layers: range, items: slice):
        engine = net.engine.alone
        # What deepcopy finds here, it takes instead of copying: so a layer's copy refers to this part's blobs.
        memo: dict[int, Any] = {id(net.engine): engine, id(net.engine.xp): net.engine.xp}
        self.gradients: dict[int, Array] = {}
        self._steps: dict[int, Step] = {}
        for i in layers:
            layer = net.layers[i]
            for blob in (*net.bottoms[i], *net.tops[i]):
                if id(blob) not in memo:
                    memo[id(blob)] = blob.part(engine, items)
            for blob in layer.blobs:
                if id(blob) not in memo:
                    memo[id(blob)] = mine = blob.part(engine)
                    if items.start:
                        self.gradients[id(blob)] = gradient = net.engine.memory(blob.count)
                        mine.use_diff(gradient)
            bottom, top = ([memo[id(blob)] for blob in blobs] for blobs in (net.bottoms[i], net.tops[i]))
            copied = deepcopy(layer, memo)
            copied.reshape(bottom, top)
            self._steps[i] = Step(copied, bottom, top, net.bottom_need_backward[i], net.places[i])

    def run(self, backward: bool, layers: Sequence[int]) -> None:
        """Run these layers, forward or backward, in this order."""
        steps = [self._steps[i] for i in layers]
        if backward and self.gradients:
            for step in steps:
                for blob in step.layer.blobs:
                    blob.flat("diff")[...] = 0
        for step in steps:
            try:
                if backward:
                    step.layer.backward(step.top, step.need_backward, step.bottom)
                else:
                    step.layer.forward(step.bottom, step.top)
            except CaffeError as error:
                error.at(step.place)
                raise


class Stretch:
    """Consecutive layers of a net that are computed in `count` parts, with their blobs' memory as it was found."""

    def __init__(self, net: Net, layers: range, count: int):
        self.layers = layers
        self.passes = 0
        self._first: int | None = None  # the layer that starts a pass
        self._layers = [net.layers[i] for i in layers]
        blobs: dict[int, Blob] = {}
        for i in layers:
            blobs.update((id(b), b) for b in (*net.bottoms[i], *net.tops[i], *net.layers[i].blobs))
            net.layers[i].link(net.bottoms[i], net.tops[i])
        for blob in blobs.values():
            for which in ("data", "diff"):
                blob.flat(which)  # pages that nobody writes to cost nothing
        self._blobs = list(blobs.values())
        self._layouts = [blob.layout for blob in self._blobs]
        self._parameters = [_parameters(layer) for layer in self._layers]
        items = net.bottoms[layers.start][0].shape[0]
        edges = [k * items // count for k in range(count + 1)]
        self.parts = [Part(net, layers, slice(*edge)) for edge in pairwise(edges)]

    def fits(self) -> bool:
        """Whether layers and blobs are as they were when the parts were made."""
        return self.remembers() and self._parameters == [_parameters(layer) for layer in self._layers]

    def remembers(self) -> bool:
        """Whether all blobs are where they were."""
        return all(blob.layout.is_that_of(layout) for blob, layout in zip(self._blobs, self._layouts))

    def arrays(self) -> list[Array]:
        """All memory that the parts share with the net."""
        found = [array for layout in self._layouts for array in (layout.data, layout.diff)]
        return found + [gradient for part in self.parts for gradient in part.gradients.values()]

    def count_pass(self, layer: int) -> None:
        """Take note that a forward pass runs from this layer on."""
        if self._first is None or layer == self._first:
            self._first = layer
            self.passes += 1


def _parameters(layer: Layer) -> tuple:
    """What of a layer's parameters a copy must agree in."""
    return (*layer.param_propagate_down, *map(id, layer.blobs))


class Crew(Workers):
    """Processes that compute the parts of some stretches, each but the first."""

    def __init__(self, stretches: Sequence[Stretch]):
        self.stretches = list(stretches)
        arrays = [array for stretch in self.stretches for array in stretch.arrays()]
        if not all(memory.share(array) for array in arrays):
            raise MemoryError("some blobs lie in memory that cannot be shared")

        def serve(k: int, number: int, backward: bool, layers: Sequence[int]) -> None:
            parts = stretches[number].parts
            if k + 1 < len(parts):
                parts[k + 1].run(backward, layers)

        super().__init__(max(len(s.parts) for s in self.stretches) - 1, serve, arrays)


class Run(NamedTuple):
    """Who has run a layer forward, and so remembers what its backward pass needs."""

    stretch: Stretch
    crew: Crew | None
    """None: this process's threads."""

    def remembers(self) -> bool:
        return self.stretch.remembers() and (self.crew is None or self.crew.alive)


class Parts:
    """What of a net is computed part by part, and by whom."""

    def __init__(self, net: Net):
        self._net: Net = proxy(net)
        self._divisible = [False] * len(net.layers)
        self._stretches: dict[int, Stretch] = {}  # by layer
        self._undivided: dict[int, tuple] = {}  # layers where it does not pay, with the shapes that say so
        self.runs: list[Run | None] = [None] * len(net.layers)
        """Of each layer, the last forward pass; None: in one piece."""
        self._crew: Crew | None = None
        self._threads_only = not net.engine.forks
        for i in range(len(net.layers)):
            self.reshaped(i)

    @property
    def processes(self) -> list[int]:
        """The numbers of the processes that compute parts now."""
        return self._crew.processes if self._crew is not None and self._crew.alive else []

    def reshaped(self, i: int) -> None:
        """Take note that layer i was shaped anew."""
        self._divisible[i] = self._net.engine.parts > 1 and divisible(self._net.layers[i])

    def may_divide(self, i: int) -> bool:
        """False where `at` would find nothing."""
        return self._divisible[i] and self._undivided.get(i) != self._net.shapes[i]

    def at(self, i: int) -> Stretch | None:
        """The stretch that layer i belongs to with the shapes of now, if any."""
        stretch = self._stretches.get(i)
        if stretch is not None and stretch.fits():
            return stretch
        layers = self._around(i)
        tops = [top for j in layers for top in self._net.tops[j]]
        count = min(self._net.engine.parts, tops[0].shape[0]) if tops else 1
        if count < 2 or sum(top.count for top in tops) < LEAST_ELEMENTS:
            self._undivided.update((j, self._net.shapes[j]) for j in layers or (i,))
            return None
        stretch = Stretch(self._net, layers, count)
        self._stretches.update(dict.fromkeys(layers, stretch))
        return stretch

    def forward(self, stretch: Stretch, layers: Sequence[int]) -> None:
        """Run some layers of a stretch forward."""
        stretch.count_pass(layers[0])
        run = Run(stretch, self._crew_for(stretch))
        for i in layers:
            self.runs[i] = run
        self._run(run, False, layers)

    def backward(self, layers: Sequence[int]) -> None:
        """Run layers that ran forward in the same way backward; parameters' gradients add up in a fixed order."""
        run = self.runs[layers[0]]
        if run is None or not run.remembers():
            raise ConfigError(
                "backward needs what forward has left, but a pass has been stopped or blobs have changed since then",
                hint="Run forward again.",
            )
        self._run(run, True, layers)
        for blob in {id(b): b for i in layers for b in self._net.layers[i].blobs}.values():
            others = [part.gradients[id(blob)] for part in run.stretch.parts if id(blob) in part.gradients]
            if others:
                gradient = blob.flat("diff")
                self._net.engine.map(add, gradient, *others, out=gradient)

    def together(self, layers: Sequence[int]) -> int:
        """How many of these layers, from the first on, ran forward in the same way."""
        run = self.runs[layers[0]]
        return next((n for n, i in enumerate(layers) if self.runs[i] != run), len(layers))

    def _around(self, i: int) -> range:
        """The layers about i that are divisible, have as many items and belong to no stretch."""
        net = self._net
        items = net.bottoms[i][0].shape[:1]

        def belongs(j: int) -> bool:
            if not self._divisible[j] or not net.is_shaped(j):
                return False
            other = self._stretches.get(j)
            if other is not None and other.fits():
                return False
            return all(blob.shape[:1] == items for blob in (*net.bottoms[j], *net.tops[j]))

        if not items or not belongs(i):
            return range(0)
        first, last = i, i
        while first > 0 and belongs(first - 1):
            first -= 1
        while last + 1 < len(net.layers) and belongs(last + 1):
            last += 1
        return range(first, last + 1)

    def _run(self, run: Run, backward: bool, layers: Sequence[int]) -> None:
        parts = run.stretch.parts
        if run.crew is None:
            self._net.engine.run(lambda k: parts[k].run(backward, layers), len(parts))
        else:
            number = run.crew.stretches.index(run.stretch)
            run.crew.run(partial(parts[0].run, backward, layers), number, backward, layers)

    def _crew_for(self, stretch: Stretch) -> Crew | None:
        """Processes that know the stretch, forked now if need be; None where threads are to run it."""
        if self._crew is not None and self._crew.alive and stretch in self._crew.stretches:
            return self._crew
        if self._threads_only or stretch.passes <= PASSES_ALONE:
            return None
        self._net.engine.forget_scratch()
        try:
            self._crew = Crew([s for s in dict.fromkeys(self._stretches.values()) if s.fits()])
        except (OSError, MemoryError) as error:
            log.warning("Threads instead of processes compute parts of the batch, which is slower: %s", error)
            self._threads_only = True
            return None
        return self._crew
