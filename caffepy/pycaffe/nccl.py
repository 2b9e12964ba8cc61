"""pycaffe's NCCL: a solver that is one of several processes, without torchrun."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from caffepy.distributed import group as parallel
from caffepy.distributed.member import attach
from caffepy.errors import MissingExtraError
from caffepy.pycaffe import mode as process

if TYPE_CHECKING:
    from caffepy.solver import Solver


class NCCL:
    """Joins `solver` with those of the other processes that have the same `uid`; on the CPU they talk over gloo.

    Every process calls `set_solver_count` and `set_solver_rank` before, and `bcast` after it; pycaffe's scripts add
    this object to the solver's and the net's callbacks, too. From then on gradients are averaged before each update.

        uid = caffepy.NCCL.new_uid()  # once, before the processes start
        caffepy.set_solver_count(2); caffepy.set_solver_rank(rank)
        solver = caffepy.SGDSolver("solver.prototxt")
        caffepy.NCCL(solver, uid).bcast()
        solver.step(1000)
    """

    def __init__(self, solver: Solver, uid: str):
        try:
            import torch.distributed as dist
        except ModuleNotFoundError:
            raise MissingExtraError("torch", "torch", "training in several processes") from None
        self.solver = solver
        gpu = solver.engine.on_gpu
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            init_method=uid,
            rank=process.solver_rank(),
            world_size=process.solver_count(),
        )
        self._group: parallel.Group | None = None

    @staticmethod
    def new_uid() -> str:
        """A name by which the processes of one training, on this machine, find each other."""
        return (Path(tempfile.mkdtemp(prefix="caffepy-")) / "meeting").as_uri()

    def bcast(self) -> None:
        """Start all processes from the weights of the first, and average gradients from now on."""
        self.join()

    def join(self) -> None:
        """What `bcast` does, once."""
        if self._group is None:
            self._group = parallel.Group(gpu=self.solver.engine.on_gpu)
            attach(self._group, self.solver)
