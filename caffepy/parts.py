"""A batch in parts: stretches of layers that compute item by item, each part of the batch in a process of its own.

Threads of one Python process wait for each other at the end of every layer, and for the interpreter lock after every
call of numpy. Processes go through a whole stretch of layers without waiting. The parts are the same where processes
cannot be had and threads compute them: same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from caffepy.blob import Array, Blob
from caffepy.engine import memory, workers
from caffepy.errors import CaffeError, ConfigError
from caffepy.layer import Layer
from caffepy.layers.split import Split, add

if TYPE_CHECKING:
    from caffepy.net import Net

log = logging.getLogger(__name__)

# Elements of all tops of a stretch below which dividing the batch does not pay.
WORTH = 1 << 17
# Parameters of a layer above which it is not divided. Every part but the first has gradients of its own for them, which
# cost memory, and products with that many weights keep threads busy without waiting.
MOST_PARAMETERS = 1 << 20


class Step(NamedTuple):
    """A copy of a layer, with its blobs cut to the items of a part."""

    layer: Layer
    bottom: list[Blob]
    top: list[Blob]
    need_backward: list[bool]
    gradients: list[Array]
    """Those of its parameters that are the part's own."""
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
            memo[id(layer.param)] = layer.param
            for blob in (*net.bottoms[i], *net.tops[i]):
                if id(blob) not in memo:
                    memo[id(blob)] = blob.part(engine, items)
            for blob in layer.blobs:
                if id(blob) not in memo:
                    memo[id(blob)] = mine = blob.part(engine)
                    if items.start and blob.has_diff:
                        self.gradients[id(blob)] = gradient = net.engine.memory(blob.count)
                        mine.use_diff(gradient)
            bottom, top = ([memo[id(blob)] for blob in blobs] for blobs in (net.bottoms[i], net.tops[i]))
            copied = deepcopy(layer, memo)
            copied.reshape(bottom, top)
            own = [self.gradients[id(blob)] for blob in layer.blobs if id(blob) in self.gradients]
            self._steps[i] = Step(copied, bottom, top, net.bottom_need_backward[i], own, net.places[i])

    def forward(self, layers: Sequence[int]) -> None:
        self._each(layers, lambda step: step.layer.forward(step.bottom, step.top))

    def backward(self, layers: Sequence[int]) -> None:
        for i in layers:
            for gradient in self._steps[i].gradients:
                gradient[...] = 0
        self._each(layers, lambda step: step.layer.backward(step.top, step.need_backward, step.bottom))

    def _each(self, layers: Sequence[int], action: Callable[[Step], None]) -> None:
        for i in layers:
            try:
                action(self._steps[i])
            except CaffeError as error:
                error.at(self._steps[i].place)
                raise


def _needed(net: Net, i: int) -> Iterator[tuple[Blob, str]]:
    """What of layer i's blobs must have memory before parts can be cut from it."""
    layer = net.layers[i]
    gradients = [
        *zip(net.bottoms[i], net.bottom_need_backward[i]),
        *((blob, True) for blob in net.tops[i]),
        *zip(layer.blobs, layer.param_propagate_down),
    ]
    for blob, wanted in gradients:
        yield blob, "data"
        if wanted and net.layer_need_backward[i]:
            yield blob, "diff"


class Stretch:
    """Consecutive layers of a net that are computed in `count` parts, with their blobs' memory as it was found."""

    complete = False
    """Whether all of it has run."""

    def __init__(self, net: Net, layers: range, count: int):
        self.layers = layers
        self.workers: workers.Workers | None = None
        """Who ran the last forward pass, and remembers it; None: this process's threads."""
        self._pool = net.engine.pool
        blobs: dict[int, Blob] = {}
        for i in layers:
            blobs.update((id(b), b) for b in (*net.bottoms[i], *net.tops[i], *net.layers[i].blobs))
            if isinstance(net.layers[i], Split):
                net.layers[i].forward(net.bottoms[i], net.tops[i])  # the names of one memory
            for blob, which in _needed(net, i):
                blob.flat(which)
        self._found = [(b, b.shape, b.memory("data"), b.memory("diff")) for b in blobs.values()]
        items = net.bottoms[layers.start][0].shape[0]
        edges = [k * items // count for k in range(count + 1)]
        self.parts = [Part(net, layers, slice(*edge)) for edge in pairwise(edges)]

    def fits(self) -> bool:
        """Whether all blobs are what and where they were."""
        return all(
            blob.shape == shape and blob.memory("data") is data and (diff is None or blob.memory("diff") is diff)
            for blob, shape, data, diff in self._found
        )

    def share(self) -> bool:
        """Let workers that are forked from now on see the blobs; False where that cannot be."""
        arrays = [array for _, _, *both in self._found for array in both if array is not None]
        arrays += [gradient for part in self.parts for gradient in part.gradients.values()]
        return all(memory.share(array) for array in arrays)

    def run(self, number: int, method: str, layers: Sequence[int]) -> None:
        """Call a method of all parts; `number` is this stretch's among those that the workers know."""
        if self.workers is None:
            self._pool.run(lambda k: getattr(self.parts[k], method)(layers), len(self.parts))
        else:
            self.workers.run(lambda: getattr(self.parts[0], method)(layers), number, method, layers)


class Parts:
    """The stretches of a net, and the workers that compute them."""

    def __init__(self, net: Net):
        self.divisible = [
            layer.divisible() and sum(blob.count for blob in layer.blobs) <= MOST_PARAMETERS for layer in net.layers
        ]
        """Of each layer, whether parts of a batch may be computed apart."""
        self._stretches: dict[int, Stretch] = {}  # by layer
        self._small: dict[int, tuple] = {}  # layers that it does not pay to divide, with their shapes
        self._known: list[Stretch] = []
        self._workers: workers.Workers | None = None
        self._threads_only = False

    def may_divide(self, net: Net, i: int) -> bool:
        """False where `at` would find nothing."""
        return net.engine.parts > 1 and self.divisible[i] and self._small.get(i) != net.shapes[i]

    def at(self, net: Net, i: int) -> Stretch | None:
        """The stretch that layer i belongs to with the shapes of now, if any."""
        stretch = self._stretches.get(i)
        if stretch is not None and stretch.fits():
            return stretch
        layers = self._around(net, i)
        count = min(net.engine.parts, *net.bottoms[i][0].shape[:1]) if layers else 1
        if count < 2 or sum(top.count for j in layers for top in net.tops[j]) < WORTH:
            for j in layers or (i,):
                self._small[j] = net.shapes[j]
                self._stretches.pop(j, None)
            return None
        stretch = Stretch(net, layers, count)
        self._stretches.update(dict.fromkeys(layers, stretch))
        return stretch

    def find(self, i: int) -> Stretch | None:
        """The stretch that ran layer i forward."""
        return self._stretches.get(i)

    def forward(self, net: Net, stretch: Stretch, layers: Sequence[int]) -> None:
        """Run some layers of a stretch forward. Workers take over at the start of its second complete pass.

        Not earlier: a net that runs once needs none. Not later: they must remember what backward needs.
        """
        if len(layers) == len(stretch.layers):
            stretch.workers = self._workers_for(net, stretch) if stretch.complete else None
            stretch.complete = True
        elif stretch.workers is not None and not stretch.workers.alive:
            stretch.workers = None
        self._run(stretch, "forward", layers)

    def backward(self, net: Net, stretch: Stretch, layers: Sequence[int]) -> None:
        """Run some layers of a stretch backward and add up the parameters' gradients, in a fixed order."""
        if not stretch.fits() or (stretch.workers is not None and not stretch.workers.alive):
            raise ConfigError(
                "backward needs what forward has left, but a pass has been stopped or blobs have changed since then",
                hint="Run forward again.",
            )
        self._run(stretch, "backward", layers)
        for blob in {id(b): b for i in layers for b in net.layers[i].blobs}.values():
            others = [part.gradients[id(blob)] for part in stretch.parts if id(blob) in part.gradients]
            if others:
                gradient = blob.flat("diff")
                net.engine.map(add, gradient, *others, out=gradient)

    def _around(self, net: Net, i: int) -> range:
        """The layers about i that are divisible, have as many items and belong to no stretch."""
        items = net.bottoms[i][0].shape[:1]

        def belongs(j: int) -> bool:
            if not self.divisible[j] or not net.is_shaped(j):
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

    def _run(self, stretch: Stretch, method: str, layers: Sequence[int]) -> None:
        stretch.run(self._known.index(stretch) if stretch.workers else 0, method, layers)

    def _workers_for(self, net: Net, stretch: Stretch) -> workers.Workers | None:
        """Those that know the stretch, forked now if need be; None where there can be none."""
        if self._workers is not None and self._workers.alive and stretch in self._known:
            return self._workers
        if self._threads_only or not workers.available():
            return None
        known = [s for s in dict.fromkeys(self._stretches.values()) if s.fits()]

        def serve(k: int, number: int, method: str, layers: Sequence[int]) -> None:
            parts = known[number].parts
            if k + 1 < len(parts):
                getattr(parts[k + 1], method)(layers)

        net.engine.forget_scratch()
        try:
            if not all(s.share() for s in known):
                raise MemoryError("some blobs lie in memory that cannot be shared")
            self._workers, self._known = workers.Workers(max(len(s.parts) for s in known) - 1, serve), known
        except (OSError, MemoryError) as error:
            log.warning("Threads instead of processes compute parts of the batch, which is slower: %s", error)
            self._threads_only = True
            return None
        return self._workers
