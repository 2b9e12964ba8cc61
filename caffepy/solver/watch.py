"""Has a test metric improved? Early stop and the snapshot of the best weights look after each test."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from math import isnan, nan
from typing import Any

from caffepy.errors import ConfigError, did_you_mean
from caffepy.proto.caffe_pb2 import EarlyStopParameter
from caffepy.solver.events import Listener
from caffepy.solver.testing import Scores
from caffepy.solver.training import Training

log = logging.getLogger(__name__)

_ERRORS = frozenset({"error", "rmse", "mse", "mae"})


def lower_is_better(metric: str, mode: int) -> bool:
    """AUTO: what its name says is lost, as `loss`, `rmse` or `test_error` do, is better lower, all else higher.

    Of `loss3/top-1` the name is `top-1`.
    """
    if mode != EarlyStopParameter.AUTO:
        return mode == EarlyStopParameter.LOWER
    name = metric.lower().rpartition("/")[2]
    words = re.split("[^a-z]+", name)
    return name == "time" or any(word in name for word in ("loss", "perplexity")) or not _ERRORS.isdisjoint(words)


def names_output(metric: str, outputs: Sequence[str]) -> bool:
    """Whether `metric` is an output, or `output/name`, a number of one whose numbers have names."""
    return metric in outputs or metric.startswith(tuple(f"{name}/" for name in outputs))


class Watch(Listener):
    """Remembers the best value of a test output and how many tests have passed since."""

    def __init__(self, param: EarlyStopParameter):
        self.param = param
        self.best: float | None = None
        self.stale = 0
        self.sign = -1 if lower_is_better(param.metric, param.mode) else 1

    def check(self, outputs: list[str]) -> None:
        """Raise ConfigError if no test net has the output, or for `output/name` that one."""
        if not names_output(self.param.metric, outputs):
            self._refuse(outputs)

    def _refuse(self, outputs: list[str]) -> None:
        known = f"Test outputs: {', '.join(outputs)}." if outputs else "There is no test net: set test_iter."
        raise ConfigError(
            f'no test output is called "{self.param.metric}"', hint=did_you_mean(self.param.metric, outputs) or known
        )

    def improved(self, scores: Scores) -> bool:
        """Take in the scores of a test; whether the metric is better than ever by more than `min_delta`.

        NaN is never better, nor is a test that does not have the metric. Raises ConfigError for `output/name` where the
        output has no number of this name.
        """
        if "/" in self.param.metric and self.param.metric not in scores:
            self._refuse(list(scores))  # only now is known which names there are
        value = scores.get(self.param.metric, nan)
        if not isnan(value) and (self.best is None or (value - self.best) * self.sign > self.param.min_delta):
            self.best, self.stale = value, 0
            return True
        self.stale += 1
        return False

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self.stale = state["best"], state["stale"]


class BestSnapshot(Watch):
    """Keeps the weights of the best test so far as `<prefix>_best`."""

    name = "best"

    def __init__(self, metric: str):
        super().__init__(EarlyStopParameter(metric=metric))

    def test(self, solver: Training) -> None:
        if solver.scores and self.improved(solver.scores):
            solver.snapshot_if_possible(f"{solver.snapshot_prefix}_best")


class EarlyStop(Watch):
    """Stops the training when `patience` tests in a row were no better."""

    name = "early_stop"

    @property
    def exhausted(self) -> bool:
        return self.stale >= self.param.patience

    def test(self, solver: Training) -> None:
        if solver.scores and not self.improved(solver.scores) and self.exhausted:
            log.info("Early stop: %s", self)
            solver.stop()

    def __str__(self) -> str:
        before = "has had no value" if self.best is None else f"has not improved on {self.best:.6g}"
        return f"{self.param.metric} {before} for {self.stale} tests"
