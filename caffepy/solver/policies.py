"""Learning-rate policies: pure functions of (SolverParameter, iteration, step counter)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from caffepy.errors import CaffeError, ConfigError, FieldError, blame, in_field
from caffepy.plugins import Registry
from caffepy.proto.caffe_pb2 import SolverParameter

Policy = Callable[[SolverParameter, int, int], float]

_policies: Registry[Policy] = Registry("lr_policy", "policies")
_USE_GAMMA = ("step", "exp", "inv", "multistep", "sigmoid")
_USE_MAX_ITER = ("poly", "cosine", "onecycle")


def policy(fn: Policy | None = None, *, replace: bool = False) -> Any:
    """Function decorator: `lr_policy: "name"` calls the function of that name; `replace` one that is there."""
    if fn is None:
        return partial(policy, replace=replace)
    _policies.register(fn.__name__.rstrip("_"), fn, replace=replace)
    return fn


def check(p: SolverParameter) -> None:
    """Raise ConfigError for what Caffe notices at the first update: the policy, its fields, the regularization."""
    if not p.HasField("lr_policy"):
        raise FieldError("lr_policy is not set", "lr_policy", hint=_policies.known())
    with in_field("lr_policy"):
        _policies.find(p.lr_policy)
    if p.weight_decay and p.regularization_type not in ("L1", "L2"):
        unknown = f'unknown regularization_type "{p.regularization_type}"'
        raise FieldError(unknown, "regularization_type", hint="Known types: L1, L2.")
    if not p.HasField("base_lr"):
        raise FieldError("base_lr is not set", "base_lr")
    if p.lr_policy == "step" and p.stepsize <= 0:
        raise FieldError("lr_policy step needs a stepsize of at least 1", "lr_policy")
    if p.lr_policy in _USE_MAX_ITER and p.max_iter <= 0:
        raise FieldError(f"lr_policy {p.lr_policy} needs a max_iter of at least 1", "lr_policy")
    if p.lr_policy == "onecycle" and not (0 < p.onecycle.rise < 1 and p.onecycle.div_factor > 0):
        raise FieldError("onecycle needs a rise between 0 and 1, and a div_factor above 0", "onecycle")
    if p.lr_policy in _USE_GAMMA and p.gamma < 0:
        raise FieldError(f"lr_policy {p.lr_policy} needs gamma >= 0, got {p.gamma:g}", "gamma")


def check_length(p: SolverParameter) -> None:
    """Raise FieldError where nobody says how long to train."""
    if not p.HasField("max_iter"):
        raise FieldError("max_iter is not set", "max_iter", hint="Say how many iterations to train.")


def check_counts(p: SolverParameter) -> None:
    """Raise ConfigError for numbers of iterations that cannot be."""
    for field in ("iter_size", "average_loss"):
        if getattr(p, field) < 1:
            raise FieldError(f"{field} must be at least 1, got {getattr(p, field)}", field)
    if p.max_iter < 0:
        raise FieldError(f"max_iter must not be negative, got {p.max_iter}", "max_iter")


def learning_rate(p: SolverParameter, iteration: int, step: int) -> float:
    """The rate of an iteration, warm-up included. What a policy of the user's raises names it."""
    function = _policies[p.lr_policy]
    try:
        rate = float(function(p, iteration, step))
    except CaffeError:
        raise
    except Exception as error:
        if function.__module__ != __name__:
            blame(error, function, f"the rate of iteration {iteration}")
            raise
        if not isinstance(error, (OverflowError, ZeroDivisionError)):
            raise
        rate = math.inf  # Python's powers raise where C's are infinite
    return rate * warmup(p, iteration)


def warmup(p: SolverParameter, iteration: int) -> float:
    """A factor that rises linearly from `warmup_factor` to 1 over the first `warmup_iter` iterations."""
    if iteration >= p.warmup_iter:
        return 1.0
    return p.warmup_factor + (1 - p.warmup_factor) * iteration / p.warmup_iter


def next_step(p: SolverParameter, iteration: int, step: int) -> int:
    """The step counter of an iteration: `multistep` counts on, at most one an iteration, `step` computes it."""
    if p.lr_policy == "multistep":
        return step + (step < len(p.stepvalue) and iteration >= p.stepvalue[step])
    return iteration // p.stepsize if p.lr_policy == "step" else step


@policy
def fixed(p, iteration, step):
    return p.base_lr


@policy
def step(p, iteration, step):
    return p.base_lr * p.gamma**step


@policy
def exp_(p, iteration, step):
    return p.base_lr * p.gamma**iteration


@policy
def inv(p, iteration, step):
    return p.base_lr * (1 + p.gamma * iteration) ** -p.power


@policy
def multistep(p, iteration, step):
    return p.base_lr * p.gamma**step


@policy
def poly(p, iteration, step):
    if iteration > p.max_iter and p.power % 1:
        raise ConfigError(
            f"lr_policy poly with power {p.power:g} has no rate beyond max_iter {p.max_iter}, at iteration {iteration}",
            hint="Raise max_iter.",
        )
    return p.base_lr * (1 - iteration / p.max_iter) ** p.power


@policy
def sigmoid(p, iteration, step):
    x = p.gamma * (iteration - p.stepsize)
    # In this form the exponential never overflows.
    return p.base_lr / (1 + math.exp(-x)) if x > 0 else p.base_lr * math.exp(x) / (1 + math.exp(x))


@policy
def cosine(p, iteration, step):
    """Half a cosine from base_lr to min_lr at max_iter (Loshchilov and Hutter 2017)."""
    return _cosine(p.base_lr, p.min_lr, min(1, iteration / p.max_iter))


@policy
def onecycle(p, iteration, step):
    """Half a cosine up from base_lr / div_factor to base_lr, then another down to a far smaller rate (Smith 2018).

    Rates are those of PyTorch's OneCycleLR with `pct_start` for `rise`; the momentum stays.
    """
    cycle, last = p.onecycle, p.max_iter - 1
    first, top = p.base_lr / cycle.div_factor, cycle.rise * p.max_iter - 1
    if iteration <= top:
        return _cosine(first, p.base_lr, iteration / top if top > 0 else 1)
    return _cosine(p.base_lr, first / cycle.final_div_factor, min(1, (iteration - top) / max(1, last - top)))


def _cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
