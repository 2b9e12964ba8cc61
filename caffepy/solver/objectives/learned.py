"""Few numbers that are learned beside a net, by the rule and at the rate of the solver."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver.rules import find_rule


class Learned:
    """`values` (K,), double precision, moved by the solver's update rule; never clipped or decayed."""

    def __init__(self, values: np.ndarray, solver: SolverParameter):
        self.p, self.rule = solver, find_rule(solver)
        self.values = np.asarray(values, float)
        self.history = [np.zeros_like(self.values) for _ in range(self.rule.history)]

    def step(self, gradient: np.ndarray, rate: float, t: int) -> None:
        """Take the step number t, from 1 on."""
        step, history = self.rule.step(np, gradient, self.history, rate, self.p, t)
        self.values, self.history = self.values - step, [np.asarray(h) for h in history]

    def state(self) -> dict[str, Any]:
        return {"values": self.values, "history": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        self.values, self.history = state["values"], list(state["history"])
