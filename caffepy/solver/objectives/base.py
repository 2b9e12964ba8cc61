"""What an objective is: weights of the tasks' gradients, from their inner products and losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net import param_str
from caffepy.plugins import Registry
from caffepy.proto.caffe_pb2 import MultiTaskParameter, SolverParameter


class Tasks(NamedTuple):
    """The tasks of a net, in order."""

    names: Sequence[str]
    """Of their losses."""
    regression: Sequence[bool]
    """Whether the loss is of the size of a squared error, else of a log likelihood."""

    def __len__(self) -> int:
        return len(self.names)


class Seen(NamedTuple):
    """What an iteration has brought; means over `iter_size`."""

    losses: np.ndarray
    """(K,), each times the weight of its task."""
    gram: np.ndarray
    """(K, K), the inner products g_i . g_j of the losses' gradients for the shared parameters."""
    layer_gram: np.ndarray
    """(K, K), the same for the parameters of one layer, where the objective names one."""
    rate: float
    """The learning rate."""
    t: int
    """Which iteration, from 1 on."""


class Objective:
    """Base of all: a method gives K weights, and the shared parameters get the sum of weight * gradient.

    That is all that the nine methods need: projections too are sums of the gradients, whose coefficients follow from
    the inner products. So whatever a gradient is, rows of a table or parts in other processes, is no matter here.
    Outside caffepy its annotations are its parameters, which `param_str` sets.
    """

    needs_layer: ClassVar[bool] = False
    """Whether `layer_gram` is looked at."""

    def __init__(self, p: MultiTaskParameter, tasks: Tasks, solver: SolverParameter, random: np.random.Generator):
        self.p, self.tasks, self.solver, self.random = p, tasks, solver, random
        vars(self).update(param_str.read(type(self), p.param_str, taken=[*vars(self), *vars(Objective)]))

    @property
    def layer(self) -> str:
        """The name of the layer of `layer_gram`; empty: the last that all tasks share."""
        return ""

    def weights(self, seen: Seen) -> np.ndarray:
        """The factors (K,) of the gradients of this iteration."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""


objectives: Registry[type[Objective]] = Registry("multi_task method", "methods", own=("caffepy.solver.objectives",))


def objective(name: str, replace: bool = False) -> Callable[[type[Objective]], type[Objective]]:
    """Class decorator: `method: name` of `multi_task` means this class; for one of your own `objective: "name"`."""

    def decorate(cls: type[Objective]) -> type[Objective]:
        objectives.register(name, cls, replace=replace)
        return cls

    return decorate


def name_of(p: MultiTaskParameter) -> str:
    """The name of the method that the definition asks for."""
    return p.objective or MultiTaskParameter.Method.Name(p.method)


def find(p: MultiTaskParameter) -> type[Objective]:
    """The class of the method that the definition asks for. Raises ConfigError where none has the name."""
    if p.objective and p.HasField("method"):
        raise ConfigError("multi_task has a method and an objective", hint="Give one of the two.")
    return objectives.find(name_of(p))
