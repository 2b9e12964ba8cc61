"""Batch size, learning rate and length of a training for data of another size than a solver was made for."""

from __future__ import annotations

from dataclasses import dataclass

from caffepy.proto.caffe_pb2 import SolverParameter

MIN_ITERATIONS = 20
"""An epoch has at least so many iterations, so that a small data set is not averaged away."""
FINETUNED = 1 / 3
"""Part of the epochs that a last layer alone is given."""


@dataclass(frozen=True)
class Schedule:
    """Records, and records a batch, of training and test; batches an iteration of training."""

    records: int
    batch: int
    test_records: int
    test_batch: int
    iter_size: int = 1

    @property
    def iteration(self) -> int:
        """Records of an iteration."""
        return self.batch * self.iter_size

    @property
    def epoch(self) -> int:
        """Iterations of an epoch."""
        return max(1, -(-self.records // self.iteration))


def fitted(published: Schedule, records: int, test_records: int, batch: int = 0) -> Schedule:
    """For data of another size: with `batch`, or the published number of records an iteration, or the largest power of
    two that leaves an epoch MIN_ITERATIONS iterations."""
    most = max(1, records // MIN_ITERATIONS)
    iteration = batch or min(published.iteration, 1 << (most.bit_length() - 1))
    batch = batch or min(iteration, published.batch)
    return Schedule(records, batch, test_records, min(published.test_batch, test_records), iteration // batch)


def stretch(published: Schedule, own: Schedule, finetune: bool) -> float:
    """Iterations of the own training for one of the published."""
    return own.epoch * published.iteration / published.records * (FINETUNED if finetune else 1)


def fields(solver: SolverParameter, published: Schedule, own: Schedule, finetune: bool) -> dict[str, str]:
    """Fields of `solver` for `own` data, where it was made for `published`.

    The number of epochs stays, and so does what a record contributes to the weights: the learning rate is in proportion
    to the batch (Goyal et al. 2017), and steps lie where they lay in epochs. Tests see every record once.
    """
    factor = stretch(published, own, finetune)

    def scaled(iterations: int) -> str:
        return str(max(1, round(iterations * factor)))

    out = {
        "base_lr": f"{solver.base_lr * own.iteration / published.iteration:.4g}",
        "max_iter": scaled(solver.max_iter),
    }
    out |= {field: scaled(getattr(solver, field)) for field in ("stepsize", "warmup_iter") if getattr(solver, field)}
    if solver.lr_policy == "inv":  # it falls with gamma times iteration
        out["gamma"] = f"{solver.gamma / factor:.6g}"
    if solver.lr_policy == "exp":
        out["gamma"] = f"{solver.gamma ** (1 / factor):.9g}"
    if solver.HasField("iter_size"):
        out["iter_size"] = str(own.iter_size)
    if solver.test_iter:
        out["test_iter"] = str(-(-own.test_records // own.test_batch))
        out["test_interval"] = str(min(own.epoch, int(out["max_iter"])))
    out["display"] = str(max(1, min(solver.display or 20, own.epoch // 4)))
    if solver.snapshot:
        out["snapshot"] = str(max(1, int(out["max_iter"]) // 5))
    return out
