"""Batch size, learning rate and length of a training for data of another size than a solver was made for."""

from __future__ import annotations

from dataclasses import dataclass

from caffepy.proto.caffe_pb2 import SolverParameter

MIN_BATCHES = 20
"""An epoch has at least so many batches, so that a small data set is not averaged away."""
FINETUNED = 1 / 3
"""Part of the epochs that a last layer alone is given."""


@dataclass(frozen=True)
class Schedule:
    """Records, and records a batch, of training and test."""

    records: int
    batch: int
    test_records: int
    test_batch: int

    @property
    def epoch(self) -> int:
        """Iterations of an epoch."""
        return max(1, -(-self.records // self.batch))


def batch_size(records: int, published: int) -> int:
    """The published size, or the largest power of two that leaves an epoch MIN_BATCHES batches."""
    most = max(1, records // MIN_BATCHES)
    return min(published, 1 << (most.bit_length() - 1))


def stretch(published: Schedule, own: Schedule, finetune: bool) -> float:
    """Iterations of the own training for one of the published."""
    return own.epoch * published.batch / published.records * (FINETUNED if finetune else 1)


def fields(solver: SolverParameter, published: Schedule, own: Schedule, finetune: bool) -> dict[str, str]:
    """Fields of `solver` for `own` data, where it was made for `published`.

    The number of epochs stays, and so does what a record contributes to the weights: the learning rate is in proportion
    to the batch (Goyal et al. 2017), and steps lie where they lay in epochs. Tests see every record once.
    """
    factor = stretch(published, own, finetune)

    def scaled(iterations: int) -> str:
        return str(max(1, round(iterations * factor)))

    out = {"base_lr": f"{solver.base_lr * own.batch / published.batch:.4g}", "max_iter": scaled(solver.max_iter)}
    out |= {field: scaled(getattr(solver, field)) for field in ("stepsize", "warmup_iter") if getattr(solver, field)}
    if solver.lr_policy == "inv":  # it falls with gamma times iteration
        out["gamma"] = f"{solver.gamma / factor:.6g}"
    if solver.lr_policy == "exp":
        out["gamma"] = f"{solver.gamma ** (1 / factor):.9g}"
    if solver.test_iter:
        out["test_iter"] = str(-(-own.test_records // own.test_batch))
        out["test_interval"] = str(min(own.epoch, int(out["max_iter"])))
    out["display"] = str(max(1, min(solver.display or 20, own.epoch // 4)))
    if solver.snapshot:
        out["snapshot"] = str(max(1, int(out["max_iter"]) // 5))
    return out
