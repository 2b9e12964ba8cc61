"""Objectives where a loss is 0, or gradients are parallel for long."""

from __future__ import annotations

import numpy as np

from caffepy.proto.caffe_pb2 import MultiTaskParameter, SolverParameter
from caffepy.solver.objectives.base import Seen, Tasks, find
from caffepy.solver.objectives.gradvac import vaccinated


def objective(method: str):
    p = MultiTaskParameter(method=method)
    return find(p)(p, Tasks(["a", "b"], [False, False]), SolverParameter(base_lr=0.01), np.random.default_rng(0))


def gradnorm(first: list[float]) -> np.ndarray:
    method = objective("GRADNORM")
    for t, losses in enumerate([first, *[[0.6, 0.6]] * 40], 1):
        weights = method.weights(Seen(np.array(losses), np.eye(2), np.eye(2), 0.01, t))
    return weights


def test_gradnorm_begins_a_task_with_its_first_loss_that_is_none_of_0():
    np.testing.assert_allclose(gradnorm([0.6, 0.0]), [1, 1], atol=1e-6)
    np.testing.assert_allclose(gradnorm([0.6, 0.6]), [1, 1], atol=1e-6)


def test_gradvac_has_an_end_where_gradients_were_parallel_for_long():
    order, targets = [np.array([1]), np.array([0])], np.zeros((2, 2))
    for _ in range(100):
        _, targets = vaccinated(np.ones((2, 2)), targets, order, 0.5)
    weights, _ = vaccinated(np.array([[1, 0.5], [0.5, 1]]), targets, order, 0.5)
    assert np.isfinite(weights).all() and np.abs(weights).max() < 50
