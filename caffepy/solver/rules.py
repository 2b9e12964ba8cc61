"""Update rules: each is its formula, in Caffe's order of operations.

A rule takes the gradient (clipped, averaged over `iter_size`, decayed), its history, the blob's rate, the
SolverParameter and t (1 at the first update), and returns the step to subtract and the new history. Rules are pure
and elementwise, so the engine runs them tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

from caffepy.errors import FieldError, in_field
from caffepy.plugins import Registry
from caffepy.proto.caffe_pb2 import SolverParameter


class Rule(NamedTuple):
    name: str
    step: Callable
    history: int
    """History blobs for each parameter."""
    momentum: bool
    decoupled: bool = False
    """Whether weight decay stays out of the gradient, as with `decoupled_weight_decay`."""
    layerwise: bool = False
    """Whether the step of each parameter is brought to rate * |w|: the rule's is then its direction."""


_rules: Registry[Rule] = Registry("solver type", "types")


def update_rule(
    name: str, history: int = 1, momentum: bool = True, replace: bool = False, **more: bool
) -> Callable[[Callable], Callable]:
    """Function decorator: `type: "name"` in a solver uses this function; `more` as in Rule."""

    def decorate(fn: Callable) -> Callable:
        _rules.register(name, Rule(name, fn, history, momentum, **more), by=fn, replace=replace)
        return fn

    return decorate


def find_rule(p: SolverParameter) -> Rule:
    """The rule of `p.type`; raises ConfigError if it is unknown or its parameters are impossible."""
    with in_field("type"):
        rule = _rules.find(p.type)
    if p.momentum and not rule.momentum:
        surplus = f"{p.type} takes no momentum, got {p.momentum:g}"
        raise FieldError(surplus, "momentum", hint="Remove the line `momentum`.")
    if p.type == "RMSProp" and not 0 <= p.rms_decay < 1:
        raise FieldError(f"rms_decay must lie in [0, 1), got {p.rms_decay:g}", "rms_decay")
    if p.type in ("Adam", "AdamW", "LAMB"):
        for field in ("momentum", "momentum2"):
            if not 0 <= getattr(p, field) < 1:
                raise FieldError(f"{field} of {p.type} must lie in [0, 1), got {getattr(p, field):g}", field)
    return rule


@update_rule("SGD")
def sgd(xp, grad, history, rate, p, t):
    """h = m h + r g; step h."""
    h = p.momentum * history[0] + rate * grad
    return h, (h,)


@update_rule("Nesterov")
def nesterov(xp, grad, history, rate, p, t):
    """h' = m h + r g; step (1 + m) h' - m h (Nesterov 1983, as Caffe writes it)."""
    h = p.momentum * history[0] + rate * grad
    return (1 + p.momentum) * h - p.momentum * history[0], (h,)


@update_rule("AdaGrad", momentum=False)
def adagrad(xp, grad, history, rate, p, t):
    """h = h + g^2; step r g / (sqrt(h) + delta) (Duchi et al. 2011)."""
    h = history[0] + grad * grad
    return rate * (grad / (xp.sqrt(h) + p.delta)), (h,)


@update_rule("RMSProp", momentum=False)
def rmsprop(xp, grad, history, rate, p, t):
    """h = d h + (1 - d) g^2; step r g / (sqrt(h) + delta) (Tieleman and Hinton 2012)."""
    h = (1 - p.rms_decay) * (grad * grad) + p.rms_decay * history[0]
    return rate * (grad / (xp.sqrt(h) + p.delta)), (h,)


@update_rule("AdaDelta", history=2)
def adadelta(xp, grad, history, rate, p, t):
    """Step r u, u = g sqrt((h2 + delta) / (h1 + delta)) with running squares h1 of g, h2 of u (Zeiler 2012)."""
    squares, updates = history
    squares = (1 - p.momentum) * (grad * grad) + p.momentum * squares
    u = grad * xp.sqrt((updates + p.delta) / (squares + p.delta))
    updates = (1 - p.momentum) * (u * u) + p.momentum * updates
    return rate * u, (squares, updates)


@update_rule("Adam", history=2)
def adam(xp, grad, history, rate, p, t):
    """m, v running means of g, g^2; step r c m / (sqrt(v) + delta), c = sqrt(1 - b2^t) / (1 - b1^t)."""
    m, v = history
    m = (1 - p.momentum) * grad + p.momentum * m
    v = (1 - p.momentum2) * (grad * grad) + p.momentum2 * v
    rate = rate * (sqrt(1 - p.momentum2**t) / (1 - p.momentum**t))
    return rate * (m / (xp.sqrt(v) + p.delta)), (m, v)


# Loshchilov and Hutter 2019. Of a table with `sparse: true` a row decays when it is touched, not in every step.
update_rule("AdamW", history=2, decoupled=True)(adam)


@update_rule("LAMB", history=2, decoupled=True, layerwise=True)
def lamb(xp, grad, history, rate, p, t):
    """Adam's direction, both moments corrected: (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + delta) (You et al. 2020).

    The step is then made as long as the parameter; of a table with `sparse: true` both are those of the touched rows.
    """
    m, v = history
    m = (1 - p.momentum) * grad + p.momentum * m
    v = (1 - p.momentum2) * (grad * grad) + p.momentum2 * v
    return rate * (m / (1 - p.momentum**t)) / (xp.sqrt(v / (1 - p.momentum2**t)) + p.delta), (m, v)
