"""Data parallel training: one process a device, gradients averaged as Caffe does.

`caffepy train --gpu 0,1` starts the processes by itself; `torchrun --nproc-per-node N -m caffepy train ...` does it
anywhere, over several machines too. Each process reads its own share of the records, `batch_size` is a process's.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Sequence
from typing import Any

from caffepy.distributed.launch import WorkerLostError
from caffepy.distributed.meeting import exchange, meet
from caffepy.errors import ConfigError, MissingExtraError
from caffepy.net.blob import Blob
from caffepy.net.executor import Observer
from caffepy.net.rows import Rows
from caffepy.solver.events import Action, Listener, Requests
from caffepy.solver.solver import Solver

log = logging.getLogger(__name__)


def launched() -> bool:
    """Whether this process was started as one of several, by us or by torchrun."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def rank() -> int:
    """The number of this process among all, on all machines."""
    return int(os.environ.get("RANK", "0"))


def restarted() -> bool:
    """Whether torchrun has started the processes again after it lost one: then training resumes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


class Group(Listener):
    """The processes of one training. `attach` makes a solver one of them.

    It is the first of the solver's listeners: the others see gradients and scores that are the same everywhere.
    """

    name = "processes"

    def __init__(self, gpu: bool):
        try:
            import torch
            import torch.distributed as dist
        except ModuleNotFoundError:
            raise MissingExtraError("torch", "torch", "training in several processes") from None
        self._torch, self._dist = torch, dist
        if not dist.is_initialized():
            self._join(gpu)
        # Decisions are made on the host: on GPUs this spares the wait for the device.
        self._decisions = dist.new_group(backend="gloo") if gpu else None
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._pending: list[Any] = []
        self._unsent: list[Blob] = []
        self.seed = 0
        """Of the random numbers of all processes but the first."""

    def _join(self, gpu: bool) -> None:
        try:
            store, number, size = next(self._dist.rendezvous("env://"))
            fresh = self._dist.PrefixStore(meet(store, number, size), store)
            devices = exchange(fresh, number, size, "a GPU" if gpu else "the CPU")
        except ValueError as error:
            raise ConfigError(
                f"this process is to train with others, but cannot find them: {error}",
                hint="Start it by caffepy train --gpu 0,1, or by torchrun, which set these variables; to train alone, "
                "unset LOCAL_RANK and WORLD_SIZE.",
            ) from None
        except TimeoutError as error:
            raise WorkerLostError(str(error), hint="Start all processes within minutes of each other.") from None
        except RuntimeError as error:
            address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
            raise WorkerLostError(
                f"the first process cannot be reached at {address}: {_said(error)}",
                hint="Look whether it runs, and whether MASTER_ADDR (torchrun: --rdzv-endpoint) names its machine.",
            ) from None
        for i, device in enumerate(devices):
            if device != devices[0]:
                raise ConfigError(
                    f"process 0 computes on {devices[0]}, but process {i} on {device}",
                    hint="Give all the same --gpu, --engine and solver_mode; the machines need the same PyTorch.",
                )
        self._dist.init_process_group("nccl" if gpu else "gloo", store=fresh, rank=number, world_size=size)

    def attach(self, solver: Solver) -> None:
        """Share records, start from rank 0's weights, average gradients before each update; rank 0 tests and writes.

        With `layer_wise_reduce` (the default) a layer's gradients travel while the layers before it go backward.
        """
        self.solver = solver
        self._check_same_net()
        self._share_records()
        for param in solver.net.learnable_params:
            self._call(self._dist.broadcast, self._tensor(param.blob.flat("data")), 0)
        if solver.multi_task:
            solver.multi_task.seed(self.seed)
            alone = solver.multi_task.of_one_task()
            self._unsent = [p.blob for p in alone if p.lr_mult]
        elif solver.param.layer_wise_reduce and solver.param.iter_size == 1:
            due = self._due(solver)
            solver.net.observers.append(_Overlapped(self, due))
        else:
            self._unsent = [p.blob for p in solver.net.learnable_params if p.lr_mult]
        solver.root = self.rank == 0
        solver.requests = Agreement(self, solver.requests.take())
        solver.listeners.insert(0, self)

    # What processes do otherwise than one alone

    def batch(self, solver: Solver) -> None:
        if solver.testing:
            self.any(True)
        elif self.rank:
            self._part_random_numbers()

    def gradients(self, solver: Solver) -> None:
        """Replace the gradients by the mean of all processes'."""
        if solver.multi_task:
            solver.multi_task.average(self._average, self._average_rows)
        self._start(self._unsent)
        for tensor, work in self._pending:
            self._call(work.wait)
            tensor.div_(self.size)
        self._pending.clear()
        for param in solver.net.learnable_params:
            if param.blob.rows is not None and param.lr_mult:
                self._average_rows(param.blob.rows)

    def test(self, solver: Solver) -> None:
        """Wait for the first process's test; its scores are everybody's."""
        if self.rank:
            # A word a batch: no test is so long that the patience of torch.distributed (30 minutes) ends.
            while self.any(False):
                pass
        else:
            self.any(False)
        solver.scores = self.from_first(solver.scores)

    def state(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed = state["seed"]

    def close(self) -> None:
        """Leave the group, at the end of training."""
        self._dist.destroy_process_group()

    def _check_same_net(self) -> None:
        shapes = [tuple(param.blob.shape) for param in self.solver.net.learnable_params]
        if self.any(shapes != self.from_first(shapes)):
            raise ConfigError(
                "the processes train different nets: the shapes of their parameters are not the same",
                hint="Give all the same solver and net files.",
            )

    def _share_records(self) -> None:
        """Shares of one order: rank 0's, for without `random_seed` every process has drawn another one."""
        sources = [layer for layer in self.solver.net.layers if hasattr(layer, "shard")]
        self.seed = int.from_bytes(os.urandom(4), "little")
        if self.solver.param.random_seed >= 0:
            self.seed = self.solver.param.random_seed
        self.seed, states = self.from_first((self.seed, [layer.state() for layer in sources]))
        for layer, state in zip(sources, states):
            layer.set_state(state)
            layer.shard(self.rank, self.size)
        for layer in self.solver.net.layers:
            if layer.type == "MemoryData":
                log.warning('layer "%s" (%s) gives the same records to every process', layer.name, layer.type)

    def _part_random_numbers(self) -> None:
        """Dropout and the like differ from process to process; rank 0 goes on as if it were alone.

        The others start anew each iteration: so the snapshot of rank 0 holds all that they need to resume exactly.
        """
        self.solver.random.seed(zlib.crc32(f"{self.seed} {self.rank} {self.solver.iter}".encode()))

    @staticmethod
    def _due(solver: Solver) -> dict[int, list[Any]]:
        """Layer index to the parameters whose gradient is complete when that layer has gone backward."""
        net = solver.net
        first: dict[int, int] = {}
        for i, node in enumerate(net.nodes):  # a shared parameter waits for the first of its layers
            for number in node.params if node.need_backward else ():
                first.setdefault(number, i)
        due: dict[int, list[Any]] = {}
        for number, i in first.items():
            if net.learnable_params[number].lr_mult:
                due.setdefault(i, []).append(net.learnable_params[number].blob)
        return due

    def _start(self, blobs: Sequence[Blob]) -> None:
        """Begin to add up the gradients of all processes."""
        for blob in blobs:
            if blob.rows is not None:  # how many rows there are is not known everywhere: later
                continue
            tensor = self._tensor(blob.flat("diff"))
            self._pending.append((tensor, self._call(self._dist.all_reduce, tensor, async_op=True)))

    def all_of(self, action: Action) -> Action:
        """What any process was asked to do, all do."""
        single = (Action.SNAPSHOT, Action.STOP)
        asked = self._torch.tensor([int(one in action) for one in single])
        self._call(self._dist.all_reduce, asked, op=self._dist.ReduceOp.MAX, group=self._decisions)
        return Action(sum(one.value for one, wanted in zip(single, asked.tolist()) if wanted))

    def any(self, condition: bool) -> bool:
        """Whether it is true in any process."""
        found = self._torch.tensor(int(condition))
        self._call(self._dist.all_reduce, found, op=self._dist.ReduceOp.MAX, group=self._decisions)
        return bool(found)

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, in every process."""
        values = [value]
        self._call(self._dist.broadcast_object_list, values, 0, group=self._decisions)
        return values[0]

    def _average(self, array: Any) -> None:
        """Replace the values by the mean of all processes'."""
        tensor = self._tensor(array)
        self._call(self._dist.all_reduce, tensor)
        tensor.div_(self.size)

    def _average_rows(self, rows: Rows) -> None:
        """Replace a gradient's rows by those of all processes, in their order, divided by the number of processes."""
        torch, found = self._torch, rows.merged()
        index, values = (self._tensor(array) for array in found) if found else self._no_rows(rows)
        counts = [torch.zeros(1, dtype=torch.int64, device=index.device) for _ in range(self.size)]
        self._call(self._dist.all_gather, counts, torch.tensor([len(index)], device=index.device))
        most = int(max(counts))
        if not most:
            return
        rows.clear()
        gathered = [self._gather_padded(tensor, most) for tensor in (index, values)]
        for count, *theirs in zip(counts, *gathered):
            rows.add(*(self._array(tensor[: int(count)]) for tensor in theirs))
        merged = rows.merged()
        assert merged is not None
        merged[1][...] /= self.size

    def _no_rows(self, rows: Rows) -> tuple[Any, Any]:
        device = self._tensor(self.solver.engine.zeros(1)).device
        index = self._torch.zeros(0, dtype=self._torch.int64, device=device)
        return index, self._torch.zeros((0, rows.width), device=device)

    def _gather_padded(self, tensor: Any, length: int) -> list[Any]:
        """The tensor of every process, each filled up with zeros to `length` rows."""
        padded = tensor.new_zeros((length, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        out = [self._torch.empty_like(padded) for _ in range(self.size)]
        self._call(self._dist.all_gather, out, padded)
        return out

    def _array(self, tensor: Any) -> Any:
        """The engine's array on the memory of a tensor."""
        return tensor.numpy() if self.solver.engine.name == "numpy" else tensor

    def _tensor(self, array: Any) -> Any:
        """A tensor on the memory of an array of either engine."""
        return array if isinstance(array, self._torch.Tensor) else self._torch.from_numpy(array)

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except self._torch.OutOfMemoryError:  # a RuntimeError, too
            raise
        except RuntimeError as error:
            last = getattr(getattr(self, "solver", None), "last_snapshot", "")
            raise WorkerLostError(
                f"process {self.rank} of {self.size} has lost another one, or cannot talk to it: {_said(error)}",
                hint=f"Start again with --resume{f' (the last snapshot is {last})' if last else ''}, "
                "or under torchrun --max-restarts, which does it by itself.",
            ) from None


class _Overlapped(Observer):
    """Begins to add up gradients as soon as layers have gone backward: `due` says which, by layer."""

    def __init__(self, group: Group, due: dict[int, list[Any]]):
        self._group, self._due = group, due

    def after_layers(self, layers: Sequence[int], backward: bool) -> None:
        if backward:
            for i in layers:
                self._group._start(self._due.get(i, ()))


class Agreement(Requests):
    """Requests to a solver that is one of several processes: each decision is the same everywhere."""

    def __init__(self, group: Group, asked: Action):
        super().__init__()
        self._group = group
        self.add(asked)

    def decide(self) -> Action:
        return self._group.all_of(self.take())


def _said(error: Exception) -> str:
    """The message without the stack of C++ functions that PyTorch appends."""
    return str(error).partition("\nException raised from")[0].strip() or type(error).__name__
