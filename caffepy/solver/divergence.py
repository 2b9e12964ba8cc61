"""A loss that is no number: which iteration, which layer or task, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from caffepy.errors import NotFiniteError
from caffepy.net.net import Net
from caffepy.solver import policies
from caffepy.solver.training import Training


def check(solver: Training, losses: Iterable[float]) -> None:
    """Raises NotFiniteError where one of the losses is NaN or infinite; the net holds what made the last of them."""
    for loss in losses:
        if not math.isfinite(loss):
            raise _error(solver, f"loss = {loss}; {_first_layer(solver.net)}")


def check_tasks(solver: Training, names: Sequence[str], losses: np.ndarray, squares: np.ndarray) -> None:
    """Raises NotFiniteError where the loss (K,) of a task, or the squared norm (K,) of its gradient, is no number."""
    for name, loss, square in zip(names, losses, squares):
        if not math.isfinite(loss):
            raise _error(solver, f"{name} = {loss}")
        if not math.isfinite(square):
            raise _error(solver, f"{name} = {loss:.6g}, but its gradient for the shared parameters is not finite")


def _error(solver: Training, what: str) -> NotFiniteError:
    kept = f"the last snapshot is {solver.last_snapshot}" if solver.last_snapshot else "no snapshot was made"
    rate = policies.learning_rate(solver.param, solver.iter, solver.current_step)
    return NotFiniteError(
        f"iteration {solver.iter}: {what}; lr = {rate:.6g}; {kept}",
        hint="Lower base_lr, add warmup_iter or clip_gradients, or look for bad values in the data.",
    )


def _first_layer(net: Net) -> str:
    for node in net.nodes:
        if not all(np.isfinite(net.engine.to_host(blob.data)).all() for blob in node.top):
            return f'layer "{node.layer.name}" ({node.layer.type}) is the first whose output is not finite'
    return "all outputs are finite, their weighted sum is not"
