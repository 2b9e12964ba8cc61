"""pycaffe's settings of the whole process: mode, device, random seed, log, and its place among several processes."""

from __future__ import annotations

import logging
import os
import time

from caffepy import engine, rng
from caffepy.distributed import group as parallel
from caffepy.errors import CaffeError, ConfigError
from caffepy.net.layer import layer_types

_log = logging.getLogger("caffepy.script")

_device = 0
_gpu = False
_solver_count: int | None = None
_solver_rank: int | None = None


def set_mode_cpu() -> None:
    """Nets and solvers built from now on compute on the CPU, with the numpy engine: this is where a script starts.

    As in pycaffe, `solver_mode` in a solver's definition counts on the command line alone.
    """
    global _gpu
    _gpu = False
    engine.choose_default(None)


def set_mode_gpu() -> None:
    """Nets and solvers built from now on compute on the GPU that `set_device` names, by default the first.

    Where CAFFEPY_ENGINE is set, it decides: CAFFEPY_ENGINE=numpy runs such a script on the CPU.
    Raises ConfigError where there is no GPU, MissingExtraError without PyTorch.
    """
    global _gpu
    if not os.environ.get("CAFFEPY_ENGINE"):
        try:
            engine.choose_default(engine.gpu_engine(_device))
        except CaffeError as error:
            error.hint += (
                "\n  To compute on the CPU, call set_mode_cpu, or set CAFFEPY_ENGINE=numpy and change nothing."
            )
            raise
    _gpu = True


def set_device(device_id: int) -> None:
    """The number of the GPU for `set_mode_gpu`, called before or after it."""
    global _device
    if device_id < 0:
        raise ConfigError(f"a device has a number from 0, got {device_id}")
    _device = device_id
    if _gpu:
        set_mode_gpu()


def set_random_seed(seed: int) -> None:
    """Start the random numbers of weights, dropout and data layers over from `seed`, modulo 2**32.

    A solver with a `random_seed` of its own, and its nets, have random numbers of their own.
    """
    rng.seed(seed)


def layer_type_list() -> list[str]:
    """All values that `type:` of a layer can have, sorted."""
    return layer_types()


def solver_count() -> int:
    """How many processes train together: what `set_solver_count` said, else what torchrun says, else 1."""
    return int(os.environ.get("WORLD_SIZE", "1")) if _solver_count is None else _solver_count


def set_solver_count(count: int) -> None:
    """Say how many processes train together; see `caffepy.NCCL`."""
    global _solver_count
    if count < 1:
        raise ConfigError(f"at least one process trains, got {count}")
    _solver_count = count


def solver_rank() -> int:
    """The number of this process among those that train together, from 0."""
    return parallel.rank() if _solver_rank is None else _solver_rank


def set_solver_rank(rank: int) -> None:
    """Say which of the processes this one is, from 0; see `caffepy.NCCL`."""
    global _solver_rank
    if rank < 0:
        raise ConfigError(f"processes are numbered from 0, got {rank}")
    _solver_rank = rank


def set_multiprocess(value: bool) -> None:
    """Nothing: several devices are always several processes here. pycaffe's scripts call it."""


def has_nccl() -> bool:
    """Whether GPUs can train together: PyTorch is installed, finds a GPU and comes with NCCL."""
    if not engine.gpu_count():
        return False
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_nccl_available()


def init_log(level: int = 0) -> None:
    """Show Caffe's log on stderr, from `level` on: 0 information, 1 warnings, 2 errors. Silent without this call."""
    from caffepy.show.logs import start_logging

    start_logging()
    logging.getLogger("caffepy").setLevel((logging.INFO, logging.WARNING, logging.ERROR)[min(max(level, 0), 2)])


def log(text: str) -> None:
    """Write a line to Caffe's log."""
    _log.info("%s", text)


class Timer:
    """A stop watch: `start()`, `stop()`, then `ms`, the milliseconds in between."""

    def __init__(self) -> None:
        self._start = self._stop = time.perf_counter()

    def start(self) -> None:
        self._start = self._stop = time.perf_counter()

    def stop(self) -> None:
        self._stop = time.perf_counter()

    @property
    def ms(self) -> float:
        return 1000 * (self._stop - self._start)
