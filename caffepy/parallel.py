"""Data parallel training: one process a device under torchrun, gradients averaged as Caffe does.

`caffepy train --gpu 0,1` starts the processes by itself; `torchrun --nproc-per-node N -m caffepy train ...` does it
anywhere, over several machines too. Each process reads its own share of the records, `batch_size` is a process's.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from caffepy import rng
from caffepy.errors import CaffeError, MissingExtraError

if TYPE_CHECKING:
    from caffepy.blob import Blob
    from caffepy.solver import Solver
    from caffepy.solver.solver import Action

log = logging.getLogger(__name__)


class WorkerLostError(CaffeError):
    """Another process of the same training is gone."""


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
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


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `caffepy ARGUMENTS` in so many processes on this machine; the exit status."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([*command, "-m", "caffepy", *arguments], check=False).returncode


class Group:
    """The processes of one training. `attach` makes a solver one of them."""

    def __init__(self, gpu: bool):
        try:
            import torch
            import torch.distributed as dist
        except ModuleNotFoundError:
            raise MissingExtraError("torch", "torch", "training in several processes") from None
        self._torch, self._dist = torch, dist
        if not dist.is_initialized():
            dist.init_process_group("nccl" if gpu else "gloo")
        # Decisions are made on the host: on GPUs this spares the wait for the device.
        self._decisions = dist.new_group(backend="gloo") if gpu else None
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._pending: list[Any] = []

    def attach(self, solver: Solver) -> None:
        """Share records, start from rank 0's weights, average gradients before each update; rank 0 writes and logs.

        With `layer_wise_reduce` (the default) a layer's gradients travel while the layers before it go backward.
        """
        self.solver = solver
        self._share_records()
        for param in solver.net.learnable_params:
            self._call(self._dist.broadcast, self._tensor(param.blob.flat("data")), 0)
        self._part_random_numbers()
        overlapped = solver.param.layer_wise_reduce and solver.param.iter_size == 1
        if overlapped:
            due = self._due(solver)
            solver.net.hooks["after_backward"].append(lambda i: self._start(due.get(i, ())))
        else:
            every = [p.blob for p in solver.net.learnable_params if p.lr_mult]
            solver.callbacks.append((lambda: None, lambda: self._start(every)))
        solver.callbacks.append((lambda: None, self._finish))
        ask = solver.action
        solver.action = lambda: self._agree(ask())
        solver.restore = self._restore  # type: ignore[method-assign]
        if self.rank:
            solver.snapshot = lambda name=None: ""  # type: ignore[method-assign]

    def _share_records(self) -> None:
        """Shares of one order: rank 0's, for without `random_seed` every process has drawn another one."""
        sources = [layer for layer in self.solver.net.layers if hasattr(layer, "shard")]
        states = [[layer.state() for layer in sources]]
        self._call(self._dist.broadcast_object_list, states, 0, group=self._decisions)
        for layer, state in zip(sources, states[0]):
            layer.set_state(state)
            layer.shard(self.rank, self.size)
        for layer in self.solver.net.layers:
            if layer.type == "MemoryData":
                log.warning('layer "%s" (%s) gives the same records to every process', layer.name, layer.type)

    def _restore(self, path: str | PathLike[str]) -> None:
        """Continue from a solver state in every process."""
        type(self.solver).restore(self.solver, path)
        self._part_random_numbers()

    def _part_random_numbers(self) -> None:
        """Dropout and the like differ from process to process; rank 0 goes on as if it were alone."""
        if self.rank:
            rng.seed(rng.draw() + self.rank)

    @staticmethod
    def _due(solver: Solver) -> dict[int, list[Any]]:
        """Layer index to the parameters whose gradient is complete when that layer has gone backward."""
        net = solver.net
        first: dict[int, int] = {}
        for i, numbers in enumerate(net._param_index):  # a shared parameter waits for the first of its layers
            for number in numbers if net.layer_need_backward[i] else ():
                first.setdefault(number, i)
        due: dict[int, list[Any]] = {}
        for number, i in first.items():
            if net.learnable_params[number].lr_mult:
                due.setdefault(i, []).append(net.learnable_params[number].blob)
        return due

    def _start(self, blobs: Sequence[Blob]) -> None:
        """Begin to add up the gradients of all processes."""
        for blob in blobs:
            tensor = self._tensor(blob.flat("diff"))
            self._pending.append((tensor, self._call(self._dist.all_reduce, tensor, async_op=True)))

    def _finish(self) -> None:
        for tensor, work in self._pending:
            self._call(work.wait)
            tensor.div_(self.size)
        self._pending.clear()

    def _agree(self, action: Action) -> Action:
        """What any process was asked to do, all do: the most final of the requests."""
        from caffepy.solver.solver import Action

        order = [Action.NONE, Action.SNAPSHOT, Action.STOP]
        most = self._torch.tensor(order.index(action))
        self._call(self._dist.all_reduce, most, op=self._dist.ReduceOp.MAX, group=self._decisions)
        return order[int(most)]

    def _tensor(self, array: Any) -> Any:
        """A tensor on the memory of an array of either engine."""
        return array if isinstance(array, self._torch.Tensor) else self._torch.from_numpy(array)

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except RuntimeError as error:
            last = getattr(getattr(self, "solver", None), "last_snapshot", "")
            raise WorkerLostError(
                f"process {self.rank} of {self.size} has lost another one: {str(error).splitlines()[0]}",
                hint=f"Start again with --resume{f' (the last snapshot is {last})' if last else ''}, "
                "or under torchrun --max-restarts, which does it by itself.",
            ) from None
