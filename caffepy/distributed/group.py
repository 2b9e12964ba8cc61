"""Data parallel training: one process a device, gradients averaged as Caffe does.

`caffepy train --gpu 0,1` starts the processes by itself; `torchrun --nproc-per-node N -m caffepy train ...` does it
anywhere, over several machines too. Each process reads its own share of the records, `batch_size` is a process's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffepy.distributed.launch import WorkerLostError
from caffepy.distributed.meeting import exchange, meet
from caffepy.errors import ConfigError, MissingExtraError
from caffepy.net.blob import Array

if TYPE_CHECKING:
    import numpy as np


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


class Group:
    """The processes of one training, and what they tell each other. `member.attach` makes a solver one of them."""

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
        self._device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.last_snapshot: Callable[[], str] = lambda: ""
        """The state to resume from, for messages; "" where there is none."""

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

    def close(self) -> None:
        """Leave the group, at the end of training."""
        self._dist.destroy_process_group()

    # Decisions

    def any(self, condition: bool) -> bool:
        """Whether it is true in any process."""
        return self.any_of([condition])[0]

    def any_of(self, conditions: Sequence[bool]) -> list[bool]:
        """Of each whether it is true in any process."""
        found = self._torch.tensor([int(condition) for condition in conditions])
        self._call(self._dist.all_reduce, found, op=self._dist.ReduceOp.MAX, group=self._decisions)
        return [bool(one) for one in found.tolist()]

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, in every process."""
        values = [value]
        self._call(self._dist.broadcast_object_list, values, 0, group=self._decisions)
        return values[0]

    # Arrays, of either engine

    def broadcast(self, array: Array) -> None:
        """Replace the values by rank 0's."""
        self._call(self._dist.broadcast, self._tensor(array), 0)

    def start_sum(self, array: Array) -> Callable[[], None]:
        """Begin to add up the values of all processes; the function waits for the sum and makes a mean of it."""
        tensor = self._tensor(array)
        work = self._call(self._dist.all_reduce, tensor, async_op=True)

        def finish() -> None:
            self._call(work.wait)
            tensor.div_(self.size)

        return finish

    def gather_rows(self, found: tuple[Array, Array] | None, width: int) -> list[tuple[Array, Array]] | None:
        """Indices (n,) and values (n, width) of every process, as tensors; None where nobody has any."""
        torch, device = self._torch, self._device
        if found is None:
            index = torch.zeros(0, dtype=torch.int64, device=device)
            values = torch.zeros((0, width), device=device)
        else:
            index, values = (self._tensor(array) for array in found)
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
        self._call(self._dist.all_gather, counts, torch.tensor([len(index)], device=device))
        most = int(max(counts))
        if not most:
            return None
        every = zip(counts, *(self._gather_padded(tensor, most) for tensor in (index, values)))
        return [(index[: int(n)], values[: int(n)]) for n, index, values in every]

    # Rows of a table (M, K) that the processes keep by turns: row r of the whole is row r / size of process r % size

    def rows_of_all(self, table: Array, index: Array) -> Array:
        """The rows (n, K) at `index` (n,) of the whole table, a tensor; every process asks, and gives what it keeps."""
        torch = self._torch
        wanted, places = torch.unique(self._tensor(index), return_inverse=True)
        owners = wanted % self.size
        order = torch.argsort(owners, stable=True)
        asked, counts = self._exchange(wanted[order] // self.size, torch.bincount(owners, minlength=self.size))
        found, _ = self._exchange(self._tensor(table)[asked], counts)
        rows = torch.empty_like(found)
        rows[order] = found
        return rows[places]

    def _exchange(self, values: Any, counts: Any) -> tuple[Any, Any]:
        """Give process r the next counts[r] of the values; what this one is given, and how many by each."""
        theirs = self._torch.empty_like(counts)
        self._call(self._dist.all_to_all_single, theirs, counts)
        received = values.new_empty((int(theirs.sum()), *values.shape[1:]))
        sizes = theirs.tolist(), counts.tolist()
        self._call(self._dist.all_to_all_single, received, values.contiguous(), *sizes)
        return received, theirs

    def take_from(self, rank: int, shape: tuple[int, ...]) -> np.ndarray:
        """What another process gives to the first."""
        values = self._torch.empty(shape, device=self._device)
        self._call(self._dist.recv, values, rank)
        return values.cpu().numpy()

    def give_to_first(self, array: Array) -> None:
        self._call(self._dist.send, self._tensor(array).contiguous(), 0)

    def _gather_padded(self, tensor: Any, length: int) -> list[Any]:
        """The tensor of every process, each filled up with zeros to `length` rows."""
        padded = tensor.new_zeros((length, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        out = [self._torch.empty_like(padded) for _ in range(self.size)]
        self._call(self._dist.all_gather, out, padded)
        return out

    def _tensor(self, array: Any) -> Any:
        """A tensor on the memory of an array of either engine."""
        return array if isinstance(array, self._torch.Tensor) else self._torch.from_numpy(array)

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except self._torch.OutOfMemoryError:  # a RuntimeError, too
            raise
        except RuntimeError as error:
            last = self.last_snapshot()
            raise WorkerLostError(
                f"process {self.rank} of {self.size} has lost another one, or cannot talk to it: {_said(error)}",
                hint=f"Start again with --resume{f' (the last snapshot is {last})' if last else ''}, "
                "or under torchrun --max-restarts, which does it by itself.",
            ) from None


def _said(error: Exception) -> str:
    """The message without the stack of C++ functions that PyTorch appends."""
    return str(error).partition("\nException raised from")[0].strip() or type(error).__name__
