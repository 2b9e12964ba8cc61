"""Whole: layer by layer, each over the whole batch. What all executors do alike stands here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any, Protocol
from weakref import proxy

from caffepy import rng
from caffepy.errors import ConfigError, locate
from caffepy.net.blob import Array, Blob
from caffepy.net.build import Node
from caffepy.net.debug import DebugLines
from caffepy.net.executor import Executor, Look, unseen
from caffepy.net.net import Net
from caffepy.net.observer import Observer
from caffepy.passes.plan import Plan, plan


class LayerRun(Protocol):
    """One layer, or several that run together; it tells of what lies between its first and its last."""

    @property
    def layers(self) -> Sequence[int]: ...

    def forward(self, told: Told) -> None: ...

    def backward(self, told: Told, wanted: dict[int, list[bool]]) -> None: ...


class Told:
    """The observers of one pass."""

    def __init__(self, observers: Sequence[Observer], backward: bool):
        self.observers, self.backward = observers, backward
        self.every_layer = any(observer.sees_each_layer(backward) for observer in observers)

    def around(self, run: LayerRun) -> Iterator[LayerRun]:
        """The run, to be run, with what is told before and after it; of its first layer `before` has been told."""
        if not self.every_layer:
            self.before(run.layers)
        yield run
        self.after(run.layers[-1:] if self.every_layer else run.layers)

    def before(self, layers: Sequence[int]) -> None:
        for observer in self.observers:
            observer.before_layers(layers, self.backward)

    def after(self, layers: Sequence[int]) -> None:
        for observer in self.observers:
            observer.after_layers(layers, self.backward)


class OneLayer:
    """A layer that runs on its own."""

    def __init__(self, node: Node, i: int):
        self.node = node
        self.layers: Sequence[int] = (i,)

    def forward(self, told: Told) -> None:
        node = self.node
        node.layer.kept_by = None
        if not node.is_shaped:
            placed(node, node.reshape)
        placed(node, node.layer.forward, node.bottom, node.top)

    def backward(self, told: Told, wanted: dict[int, list[bool]]) -> None:
        node = self.node
        need = wanted.get(self.layers[0], node.bottom_need_backward)
        placed(node, node.layer.backward, node.top, need, node.bottom)


def placed(node: Node, method: Callable[..., None], *args: Any) -> None:
    """Call a method of a layer; what goes wrong says where."""
    try:
        method(*args)
    except Exception as error:
        locate(error, node.place)
        raise


class Whole(Executor):
    """Runs layer after layer over the whole batch."""

    def __init__(self, net: Net):
        self._net: Net = proxy(net)
        self._one_by_one = False
        """Whether somebody wants to see every layer of the pass."""

    def forward(self, layers: Iterable[int] | None = None) -> Array:
        todo = self.usual(False) if layers is None else list(layers)
        with self._pass(todo, False) as told:
            return self._run_forward(todo, told)

    def backward(
        self,
        layers: Iterable[int] | None = None,
        *,
        losses: Collection[str] | None = None,
        params: Collection[Blob] | None = None,
    ) -> None:
        if losses is None and params is None:
            todo = self.usual(True) if layers is None else list(layers)
            with self._pass(todo, True) as told:
                self._run_backward(todo, {}, told)
            return
        made = plan(self._net, losses, params)
        among = None if layers is None else set(layers)
        todo = [i for i in made.layers if among is None or i in among]
        with self._pass(todo, True) as told, _only(self._net, made):
            self._run_backward(todo, made.wanted, told)

    def forward_backward(self, look: Look = unseen) -> Any:
        with self._net.lock:  # no other thread's pass may come between the two
            return super().forward_backward(look)

    def together(self) -> list[list[int]]:
        return [[i] for i in self.usual(False)]

    def usual(self, backward: bool) -> list[int]:
        """The layers of a whole pass, in order: all forward, those whose gradients are needed backward."""
        nodes = self._net.nodes
        return [i for i in reversed(range(len(nodes))) if nodes[i].need_backward] if backward else [*range(len(nodes))]

    def _run_forward(self, layers: Sequence[int], told: Told) -> Array:
        loss: Any = 0.0
        for run in self._forward_runs(layers, told):
            run.forward(told)
            for i in run.layers:
                loss = self._add_loss(loss, self._net.nodes[i])
        return loss

    def _run_backward(self, layers: Sequence[int], wanted: dict[int, list[bool]], told: Told) -> None:
        for run in self._backward_runs(layers, told):
            run.backward(told, wanted)

    @contextmanager
    def _pass(self, layers: Sequence[int], backward: bool) -> Iterator[Told]:
        net = self._net
        with net.lock, rng.use(net.random), net.engine.computing():
            observers = [*net.observers, DebugLines(net)] if net.param.debug_info else list(net.observers)
            for observer in observers:
                observer.before_pass(layers, backward)
            yield Told(observers, backward)
            for observer in observers:
                observer.after_pass(layers, backward)

    def _forward_runs(self, layers: Sequence[int], told: Told) -> Iterator[LayerRun]:
        """What runs one after another; a layer is shaped, and joined with others, when its turn comes."""
        self._one_by_one = told.every_layer
        while layers:
            if told.every_layer:  # before anything is decided: an observer may reshape its bottoms
                told.before(layers[:1])
            run = self._run_at(layers)
            yield from told.around(run)
            layers = layers[len(run.layers) :]

    def _run_at(self, layers: Sequence[int]) -> LayerRun:
        """The first of these layers, or the first few."""
        return OneLayer(self._net.nodes[layers[0]], layers[0])

    def _backward_runs(self, layers: Sequence[int], told: Told) -> Iterator[LayerRun]:
        """These layers, those together that ran forward together, whoever ran them."""
        while layers:
            kept_by = self._net.nodes[layers[0]].layer.kept_by
            if kept_by is None:
                run: LayerRun = OneLayer(self._net.nodes[layers[0]], layers[0])
            else:
                keeper = kept_by()
                if keeper is None:
                    raise forgotten()
                run = keeper.run([*takewhile(partial(self._keeps, kept_by), layers)])
            if told.every_layer:
                told.before(layers[:1])
            yield from told.around(run)
            layers = layers[len(run.layers) :]

    def _keeps(self, kept_by: Any, i: int) -> bool:
        return self._net.nodes[i].layer.kept_by is kept_by

    def _add_loss(self, loss: Any, node: Node) -> Any:
        """The loss with what a layer adds: sum(data * diff) of tops whose gradient holds their weight."""
        for blob, weight in zip(node.top, node.layer.loss_weights):
            if weight:
                loss = loss + self._net.engine.xp.sum(blob.data * blob.diff)
        return loss


@contextmanager
def _only(net: Net, made: Plan) -> Iterator[None]:
    """Within it the plan's gradients alone are computed, and from its losses alone."""
    kept = {i: list(net.nodes[i].layer.param_propagate_down) for i in made.params}
    try:
        for blob, _ in made.silent:
            blob.flat("diff")[...] = 0
        for i, wanted in made.params.items():
            net.nodes[i].layer.param_propagate_down[:] = wanted
        yield
    finally:
        for blob, weight in made.silent:
            blob.flat("diff")[...] = weight
        for i, wanted in kept.items():
            net.nodes[i].layer.param_propagate_down[:] = wanted


def forgotten() -> ConfigError:
    """The error of a backward pass that finds nothing of a forward pass."""
    return ConfigError(
        "backward needs what forward has left, but a pass has been stopped or blobs have changed since then",
        hint="Run forward again.",
    )
