"""Objectives where a loss is 0, or gradients are parallel for long."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.proto.caffe_pb2 import MultiTaskParameter, SolverParameter
from caffepy.solver.objectives import mgda
from caffepy.solver.objectives.base import Seen, Tasks, find
from caffepy.solver.objectives.cagrad import conflict_averse
from caffepy.solver.objectives.gradvac import vaccinated
from caffepy.solver.objectives.pe_ltr import two_steps


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


def rows_of_any_size(seed: int, powers: int = 6) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(4, 7)) * 10.0 ** random.uniform(-powers, powers, (4, 1))


@pytest.mark.parametrize("seed", range(20))
def test_mgda_is_exact_whatever_the_sizes_of_gradients(seed):
    gram = (j := rows_of_any_size(seed)) @ j.T
    w = mgda.min_norm(gram)
    # With the shortest mean x no gradient has a smaller product than x itself has, but for rounding.
    square = w @ gram @ w
    assert (gram @ w >= square - 1e-13 * np.sqrt(np.diag(gram) * square)).all()
    assert w.min() >= 0 and w.sum() == pytest.approx(1)


def test_mgda_weighs_orthogonal_gradients_by_their_inverse_squares():
    weights = mgda.min_norm(np.diag([1e12, 1e-12, 1]))
    np.testing.assert_allclose(weights, np.array([1e-12, 1e12, 1]) / (1e12 + 1 + 1e-12), rtol=1e-12)


def test_pe_ltr_leaves_little_to_gradients_that_are_large():
    np.testing.assert_allclose(two_steps(np.diag([1e12, 1e-12, 1]), np.zeros(3)), [0, 1, 0], rtol=0, atol=2e-12)


@pytest.mark.parametrize("seed", range(10))
def test_cagrad_is_exact_whatever_the_sizes_of_gradients(seed):
    gram = (j := rows_of_any_size(seed, 3)) @ j.T
    weights = conflict_averse(gram, 0.5) - 0.25  # of g_w alone, up to a factor
    assert weights.min() >= 0
    g0, towards = j.mean(axis=0), weights @ j
    # The worst case over the simplex: no gradient has a smaller product with the direction than g_w.
    products = j @ (g0 + 0.5 * np.linalg.norm(g0) * towards / np.linalg.norm(towards))
    most = products @ weights / weights.sum()
    assert (products >= most - 1e-12 * np.linalg.norm(j, axis=1) * np.linalg.norm(g0)).all()
