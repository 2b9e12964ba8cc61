"""A solver as one of several processes: shares of the records, gradients averaged, one that tests and writes."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from caffepy.distributed.group import Group
from caffepy.distributed.tables import Tables
from caffepy.engine import Engine
from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.net import Net
from caffepy.net.observer import Observer
from caffepy.net.rows import Rows
from caffepy.solver.events import Action, Listener, Requests
from caffepy.solver.solver import Solver
from caffepy.solver.training import Training

log = logging.getLogger(__name__)


def attach(group: Group, solver: Solver) -> None:
    """Share records, start from rank 0's weights, average gradients before each update; rank 0 tests and writes."""
    check_same_net(group, solver.net)
    shared = solver.net.share
    member = Member(group, solver, shared if isinstance(shared, Tables) else Tables(group))
    for param in solver.net.learnable_params:
        if param.blob.spread is None:
            group.broadcast(param.blob.flat("data"))
    solver.root = group.rank == 0
    solver.requests = Agreement(group, solver.requests.take())
    solver.listeners.insert(0, member)
    group.last_snapshot = lambda: solver.last_snapshot


class Member(Listener):
    """What a process does otherwise than one that trains alone.

    It is the first of the solver's listeners: the others see gradients and scores that are the same everywhere.
    With `layer_wise_reduce` (the default) a layer's gradients travel while the layers before it go backward.
    """

    name = "processes"

    def __init__(self, group: Group, solver: Solver, tables: Tables):
        self.group, self.tables = group, tables
        self._testing = False
        tables.keep(solver)
        self.seed = self._share_records(solver)
        """Of the random numbers of all processes but the first."""
        self._travelling: list[Callable[[], None]] = []
        self._rest: list[Blob] = []
        """Whose gradients are sent when all are there."""
        self._tasks = solver.multi_task
        if self._tasks:
            self._tasks.seed(self.seed)
            self._rest = [param.blob for param in self._tasks.of_one_task() if param.has_gradient]
        elif solver.param.layer_wise_reduce and solver.param.iter_size == 1:
            solver.net.observers.append(Overlapped(self._send, complete_after(solver.net)))
        else:
            self._rest = [param.blob for param in solver.net.learnable_params if param.has_gradient]

    def batch(self, solver: Training) -> None:
        if solver.testing:
            self._begin_test()
            self.tables.still_there()
        elif self.group.rank:
            # Dropout and the like differ from process to process; rank 0 goes on as if it were alone. The others start
            # anew each iteration: so the snapshot of rank 0 holds all that they need to resume exactly.
            solver.random.seed(zlib.crc32(f"{self.seed} {self.group.rank} {solver.iter}".encode()))

    def gradients(self, solver: Training) -> None:
        if self._tasks:
            self._travelling += [self.group.start_sum(array) for array in self._tasks.arrays()]
        self._send(self._rest)
        for finish in self._travelling:
            finish()
        self._travelling.clear()
        for rows in self._tasks.rows() if self._tasks else ():
            average_rows(self.group, rows, solver.engine)
        for param in solver.net.learnable_params:
            if param.blob.rows is not None and param.has_gradient:
                average_rows(self.group, param.blob.rows, solver.engine)

    def test(self, solver: Training) -> None:
        """Rank 0 ends what the others have served; its scores are everybody's."""
        if self.group.rank:
            self.tables.serve()
        else:
            self._begin_test()
            self._testing = False
            self.tables.end()
        solver.scores = self.group.from_first(solver.scores)

    def _begin_test(self) -> None:
        """On rank 0: the others wait in `test`."""
        if not self._testing:
            self._testing = True
            self.tables.begin()

    def state(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]

    def _send(self, blobs: Iterable[Blob]) -> None:
        # How many rows a process has the others do not know: they follow when all are there.
        self._travelling += [self.group.start_sum(blob.flat("diff")) for blob in blobs if blob.rows is None]

    def _share_records(self, solver: Solver) -> int:
        """Shares of one order: rank 0's, for without `random_seed` every process has drawn another one. A seed."""
        sources = [layer for layer in solver.net.layers if hasattr(layer, "shard")]
        seed = solver.param.random_seed if solver.param.random_seed >= 0 else int.from_bytes(os.urandom(4), "little")
        seed, states = self.group.from_first((seed, [layer.state() for layer in sources]))
        for layer, state in zip(sources, states):
            layer.set_state(state)
            layer.shard(self.group.rank, self.group.size)
        for layer in solver.net.layers:
            if layer.type == "MemoryData":
                log.warning('layer "%s" (%s) gives the same records to every process', layer.name, layer.type)
        return seed


class Overlapped(Observer):
    """Sends gradients as soon as the layers that add to them have gone backward; `due` says which, by layer."""

    def __init__(self, send: Callable[[Iterable[Blob]], None], due: dict[int, list[Blob]]):
        self._send, self._due = send, due

    def after_layers(self, layers: Sequence[int], backward: bool) -> None:
        if backward:
            for i in layers:
                self._send(self._due.get(i, ()))


def average_rows(group: Group, rows: Rows, engine: Engine) -> None:
    """Replace a gradient's rows by those of all processes, in their order, divided by the number of processes."""
    found = rows.merged()
    gathered = group.gather_rows(found, rows.width)
    if gathered is None:
        return
    rows.clear()
    for index, values in gathered:
        rows.add(engine.xp.asarray(index), engine.xp.asarray(values))
    merged = rows.merged()
    assert merged is not None
    merged[1][...] /= group.size


class Agreement(Requests):
    """Requests to a solver that is one of several processes: what any was asked to do, all do."""

    def __init__(self, group: Group, asked: Action):
        super().__init__()
        self.group = group
        self.add(asked)

    def take_in_test(self) -> Action:
        asked = self.take()
        if Action.SNAPSHOT in asked:
            self.add(Action.SNAPSHOT)  # behind the test, when the others can hear of it
        return asked & Action.STOP

    def from_first(self, value: Any) -> Any:
        return self.group.from_first(value)

    def decide(self) -> Action:
        mine, actions = self.take(), (Action.SNAPSHOT, Action.STOP)
        wanted = self.group.any_of([action in mine for action in actions])
        return Action(sum(action.value for action, it in zip(actions, wanted) if it))


def check_same_net(group: Group, net: Net) -> None:
    """Raises ConfigError where the processes' nets have not the same parameters."""
    shapes = [tuple(param.blob.shape) for param in net.learnable_params]
    if group.any(shapes != group.from_first(shapes)):
        raise ConfigError(
            "the processes train different nets: the shapes of their parameters are not the same",
            hint="Give all the same solver and net files.",
        )


def complete_after(net: Net) -> dict[int, list[Blob]]:
    """Layer index to the parameters whose gradient is complete when that layer has gone backward."""
    first: dict[int, int] = {}
    for i, node in enumerate(net.nodes):  # a shared parameter waits for the first of its layers
        for number in node.params if node.need_backward else ():
            first.setdefault(number, i)
    due: dict[int, list[Blob]] = {}
    for number, i in first.items():
        if net.learnable_params[number].has_gradient:
            due.setdefault(i, []).append(net.learnable_params[number].blob)
    return due
