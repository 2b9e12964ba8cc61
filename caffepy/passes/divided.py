"""Divided: a batch in parts, stretches of layers that compute item by item, on threads.

Threads that divide each layer's work wait for each other at the end of every layer. Here each goes through a whole
stretch of layers with its items, without waiting. The parts follow from the batch alone, never from the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, takewhile
from typing import Any
from weakref import ref

from caffepy.engine import Engine
from caffepy.errors import ConfigError
from caffepy.net.blob import Array, Blob, Layout
from caffepy.net.build import Node
from caffepy.net.layer import Layer
from caffepy.net.net import Net
from caffepy.passes import fused
from caffepy.passes.fused import FusedRun, Link
from caffepy.passes.unseen import Unseen
from caffepy.passes.whole import LayerRun, Told, Whole, forgotten, placed
from caffepy.proto.caffe_pb2 import TEST

# Elements of all tops of a stretch below which dividing the batch does not pay. Nor does it where a layer has half as
# many on average, or less, and takes less than so many operations: its parts are calls of Python more than work.
LEAST_ELEMENTS, LEAST_OPERATIONS = 1 << 17, 1 << 22
# Parameters of a layer above which it is not divided. Every part but the first has gradients of its own for them, which
# cost memory, and products with that many weights keep threads busy without waiting.
MOST_PARAMETERS = 1 << 20
# Parts of a stretch. With more cores each part has several. Each part transforms weights, and has sums, of its own: in
# four parts CIFAR's full net took 6 %, AlexNet in eight 17 % more of the cores' time.
PARTS = 2


def divisible(layer: Layer) -> bool:
    """Whether a layer is divided: one of ours, or one whose own class, not a base of it, says that it may be."""
    said_itself = "divisible" in vars(type(layer)) or type(layer).__module__.startswith("caffepy.layers.")
    if layer.is_patched or any(blob.rows is not None for blob in layer.blobs):
        return False
    return said_itself and layer.divisible() and sum(blob.count for blob in layer.blobs) <= MOST_PARAMETERS


def pays(nodes: Sequence[Node]) -> bool:
    """Whether these layers are so large that they are better divided."""
    elements = sum(top.count for node in nodes for top in node.top)
    if elements < LEAST_ELEMENTS:
        return False
    operations = sum(node.layer.flops(node.bottom, node.top) for node in nodes)
    return 2 * elements >= LEAST_ELEMENTS * len(nodes) or operations >= LEAST_OPERATIONS * len(nodes)


def add(xp: Any, *terms: Array) -> Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class Part:
    """Some items of the batch, seen by copies of layers, whose blobs all have memory.

    The first part adds to the parameters' gradients themselves, each other to `gradients`, by id of the parameter.
    """

    def __init__(self, engine: Engine, nodes: Mapping[int, Node], number: int, count: int):
        n = next(iter(nodes.values())).bottom[0].shape[0]
        engine, items = engine.among(number, count), slice(number * n // count, (number + 1) * n // count)
        self.gradients: dict[int, Array] = {}
        self._steps: dict[int, Link] = {}
        seen: dict[int, Blob] = {}

        def cut(blobs: Sequence[Blob], items: slice | None) -> list[Blob]:
            for blob in blobs:
                if id(blob) not in seen:
                    seen[id(blob)] = blob.part(engine, items)
                    if items is None and number:
                        self.gradients[id(blob)] = gradient = engine.zeros(blob.count)
                        seen[id(blob)].use_diff(gradient)
            return [seen[id(blob)] for blob in blobs]

        for i, node in nodes.items():
            bottom, top = cut(node.bottom, items), cut(node.top, items)
            layer = node.layer.part(engine, cut(node.layer.blobs, None))
            layer.reshape(bottom, top)
            self._steps[i] = Link(layer, bottom, top, node)

    def forward(self, i: int) -> None:
        step = self._steps[i]
        self._placed(step, step.layer.forward, step.bottom, step.top)

    def forward_group(self, group: Sequence[int]) -> None:
        """Some layers, as one where they can be (see `fused`)."""
        if len(group) == 1 or not fused.forward([self._steps[i] for i in group]):
            for i in group:
                self.forward(i)

    def backward(self, i: int, wanted: list[bool]) -> None:
        step = self._steps[i]
        if self.gradients:
            for blob in step.layer.blobs:
                blob.flat("diff")[...] = 0
        self._placed(step, step.layer.backward, step.top, wanted, step.bottom)

    @staticmethod
    def _placed(step: Link, method: Callable[..., None], *args: Any) -> None:
        placed(step.node, method, *args)


class Stretch:
    """Consecutive layers of a net that are computed in `count` parts, with their blobs' memory as it was found."""

    def __init__(self, net: Net, layers: range, count: int):
        self.layers = layers
        self.nodes = {i: net.nodes[i] for i in layers}
        self.engine = net.engine
        blobs: dict[int, Blob] = {}
        for node in self.nodes.values():
            blobs.update((id(b), b) for b in (*node.bottom, *node.top, *node.layer.blobs))
            node.layer.link(node.bottom, node.top)
        for blob in blobs.values():
            for which in ("data", "diff"):
                blob.flat(which)  # pages that nobody writes to cost nothing
        self._blobs: list[tuple[Blob, Layout]] = [(blob, blob.layout) for blob in blobs.values()]
        self._parameters = [_parameters(node.layer) for node in self.nodes.values()]
        self.parts = [Part(self.engine, self.nodes, number, count) for number in range(count)]
        self._net = net
        self._fuses = net.phase == TEST and not any(node.need_backward for node in self.nodes.values())
        self._groups: dict[tuple[int, ...], LayerGroups] = {}

    def fits(self) -> bool:
        """Whether layers and blobs are as they were when the parts were made."""
        return self.remembers() and self._parameters == [_parameters(node.layer) for node in self.nodes.values()]

    def remembers(self) -> bool:
        """Whether all blobs are where they were."""
        return all(blob.layout.is_that_of(layout) for blob, layout in self._blobs)

    def run(self, layers: Sequence[int]) -> StretchRun:
        return StretchRun(self, layers)

    def groups(self, layers: Sequence[int]) -> LayerGroups | None:
        """These layers in groups that run as one, if nothing of them goes backward."""
        if not self._fuses:
            return None
        key = tuple(layers)
        if key not in self._groups:
            self._groups[key] = LayerGroups(self._net, layers)
        return self._groups[key]

    def add_gradients(self, layers: Sequence[int]) -> None:
        """Add what the other parts have found to the gradients of these layers' parameters, in a fixed order."""
        for blob in {id(b): b for i in layers for b in self.nodes[i].layer.blobs}.values():
            others = [part.gradients[id(blob)] for part in self.parts if id(blob) in part.gradients]
            gradient = blob.flat("diff")
            self.engine.map(add, gradient, *others, out=gradient)


def _parameters(layer: Layer) -> tuple:
    """What of a layer's parameters a copy must agree in."""
    return (id(layer.param_propagate_down), layer.is_patched, *map(id, layer.blobs))


class LayerGroups:
    """Layers of a stretch in groups that run as one, and the blobs within these."""

    def __init__(self, net: Net, layers: Sequence[int]):
        self.all = fused.groups(net, layers)
        self._unseen = [Unseen(net, group, fused.hidden([net.nodes[i] for i in group])) for group in self.all]

    def wait(self) -> None:
        for unseen in self._unseen:
            unseen.wait()


class StretchRun:
    """Some layers of a stretch, run together."""

    def __init__(self, stretch: Stretch, layers: Sequence[int]):
        self.stretch, self.layers = stretch, layers

    def forward(self, told: Told) -> None:
        for i in self.layers:
            self.stretch.nodes[i].layer.kept_by = ref(self.stretch)
        groups = None if told.every_layer else self.stretch.groups(self.layers)
        if groups is None:
            self._run(told, lambda part, i: part.forward(i), lambda layers: None)
            return
        parts = self.stretch.parts

        def task(k: int) -> None:
            for group in groups.all:
                parts[k].forward_group(group)

        self.stretch.engine.run(task, len(parts))
        groups.wait()

    def backward(self, told: Told, wanted: dict[int, list[bool]]) -> None:
        if not self.stretch.remembers():
            raise forgotten()
        nodes = self.stretch.nodes
        need = {i: wanted.get(i, nodes[i].bottom_need_backward) for i in self.layers}
        self._run(told, lambda part, i: part.backward(i, need[i]), self.stretch.add_gradients)

    def _run(self, told: Told, step: Callable[[Part, int], None], done: Callable[[Sequence[int]], None]) -> None:
        parts, layers, engine = self.stretch.parts, self.layers, self.stretch.engine
        if not told.every_layer:

            def task(k: int) -> None:
                for i in layers:
                    step(parts[k], i)

            engine.run(task, len(parts))
            done(layers)
            return

        def between(number: int) -> None:
            done(layers[number : number + 1])
            if number + 1 < len(layers):
                told.after(layers[number : number + 1])
                told.before(layers[number + 1 : number + 2])
                if not self.stretch.fits():
                    raise ConfigError(
                        "an observer has changed shapes or memory of blobs in the middle of layers that run together",
                        hint="Change them before the pass.",
                    )

        steps = [partial(lambda i, k: step(parts[k], i), i) for i in layers]
        engine.run_in_step(steps, len(parts), between)


class Divided(Whole):
    """Runs stretches of layers in parts of the batch, the layers between them over the whole batch."""

    def __init__(self, net: Net):
        super().__init__(net)
        self.stretches: dict[int, Stretch] = {}
        """By layer."""
        self._fused_runs: dict[tuple[int, ...], FusedRun | None] = {}
        self._undivided: dict[int, tuple] = {}  # layers where it does not pay, with the shapes that say so
        self._divisible: dict[int, tuple[tuple, bool]] = {}  # by layer, with the shapes that say so

    def _run_at(self, layers: Sequence[int]) -> LayerRun:
        stretch = self._stretch(layers)
        if stretch is None:
            return self._fused(layers) or super()._run_at(layers)
        among = stretch.layers
        return stretch.run(list(takewhile(lambda i: i in among, layers)))

    def _fused(self, layers: Sequence[int]) -> FusedRun | None:
        """The first layers that run as one, if they do."""
        if self._one_by_one or self._net.phase != TEST:
            return None
        key = tuple(layers)
        if key not in self._fused_runs:
            group = fused.group_at(self._net, layers)
            self._fused_runs[key] = FusedRun(self._net, group) if len(group) > 1 else None
        run = self._fused_runs[key]
        return None if run is None or any(node.layer.is_patched for node in run.nodes.values()) else run

    def _stretch(self, layers: Sequence[int]) -> Stretch | None:
        """The stretch that the first of these layers starts, or goes on with; all its layers are shaped."""
        for i, wanted in zip(count(layers[0]), layers):
            if i != wanted or not self._may_divide(i):
                break
            node = self._net.nodes[i]
            if not node.is_shaped:
                placed(node, node.reshape)
        return self._at(layers[0]) if self._may_divide(layers[0]) else None

    def _may_divide(self, i: int) -> bool:
        """False where `_at` would find nothing."""
        return self._is_divisible(i) and self._undivided.get(i) != self._net.nodes[i].shapes

    def _is_divisible(self, i: int) -> bool:
        node = self._net.nodes[i]
        known = self._divisible.get(i)
        if known is None or known[0] != node.shapes or (known[1] and node.layer.is_patched):
            known = self._divisible[i] = node.shapes, divisible(node.layer)
        return known[1]

    def _at(self, i: int) -> Stretch | None:
        """The stretch that layer i belongs to with the shapes of now, if any."""
        stretch = self.stretches.get(i)
        if stretch is not None and stretch.fits():
            return stretch
        nodes = self._net.nodes
        layers = self._around(i)
        tops = [top for j in layers for top in nodes[j].top]
        parts = min(PARTS, tops[0].shape[0]) if tops else 1
        if parts < 2 or not pays([nodes[j] for j in layers]):
            self._undivided.update((j, nodes[j].shapes) for j in layers or (i,))
            return None
        stretch = Stretch(self._net, layers, parts)
        self.stretches.update(dict.fromkeys(layers, stretch))
        return stretch

    def _around(self, i: int) -> range:
        """The layers about i that are divisible, have as many items and belong to no stretch."""
        nodes = self._net.nodes
        items = nodes[i].bottom[0].shape[:1]

        def belongs(j: int) -> bool:
            node = nodes[j]
            if not node.is_shaped or not self._is_divisible(j):
                return False
            other = self.stretches.get(j)
            if other is not None and other.fits():
                return False
            return all(blob.shape[:1] == items for blob in (*node.bottom, *node.top))

        if not items or not belongs(i):
            return range(0)
        first, last = i, i
        while first > 0 and belongs(first - 1):
            first -= 1
        while last + 1 < len(nodes) and belongs(last + 1):
            last += 1
        return range(first, last + 1)
