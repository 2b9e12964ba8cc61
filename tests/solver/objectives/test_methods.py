"""Each method's weights against its paper's own words for it."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import MultiTaskParameter, SolverParameter
from caffepy.solver.objectives import cagrad, dwa, gradnorm, gradvac, mgda, orders, pcgrad, pe_ltr, simplex
from caffepy.solver.objectives.base import Seen, Tasks, find, objectives
from tests.solver.objectives import references

J = np.array([[1, 2, 0, -1], [-1, 0.5, 1, 0], [0.2, -1, 0.3, 2]])
RANDOM = np.random.default_rng(0)
MANY = [RANDOM.normal(size=(k, p)) * RANDOM.uniform(0.1, 5, (k, 1)) for k in (2, 3, 4) for p in (2, 3, 9)]


def build(definition: str, names=("a", "b", "c"), regression=(False, False, False), seed: int = 0):
    p = text.parse(definition, MultiTaskParameter())
    solver = SolverParameter(type="SGD", base_lr=0.1)
    return find(p)(p, Tasks(names, regression), solver, np.random.default_rng(seed))


def seen(j=J, losses=(1, 1, 1), layer=None, rate=0.1, t=1) -> Seen:
    gram = j @ j.T
    return Seen(np.array(losses, float), gram, gram if layer is None else layer @ layer.T, rate, t)


def test_every_method_of_the_schema_is_there():
    assert set(MultiTaskParameter.Method.keys()) == set(map(str, iter_complete()))


def iter_complete():
    objectives.complete()
    return objectives


def test_uniform():
    assert build("method: UNIFORM").weights(seen()).tolist() == [1, 1, 1]


def test_mgda():
    w = build("method: MGDA").weights(seen())
    np.testing.assert_allclose(w, [0.324240, 0.306216, 0.369545], atol=1e-6)
    assert w @ (J @ J.T) @ w == pytest.approx(0.54116758, abs=1e-8)


@pytest.mark.parametrize("j", MANY, ids=lambda j: str(j.shape))
def test_mgda_is_the_shortest(j):
    w = mgda.min_norm(j @ j.T)
    assert w.min() >= 0 and w.sum() == pytest.approx(1)
    # Frank-Wolfe comes near, from above.
    assert np.linalg.norm(w @ j) <= np.linalg.norm(references.frank_wolfe(j)) + 1e-9
    assert np.linalg.norm(w @ j - references.frank_wolfe(j)) < 0.02 * np.linalg.norm(j)


@pytest.mark.parametrize("j", [np.zeros((3, 2)), np.ones((2, 4)), np.array([[1.0, 0], [-1, 0], [0, 0]])])
def test_gradients_that_are_zero_or_the_same(j):
    gram = j @ j.T
    w = mgda.min_norm(gram)
    assert w.sum() == pytest.approx(1) and w @ gram @ w <= np.diag(gram).min() + 1e-9
    for weights in (cagrad.conflict_averse(gram, 0.5), pe_ltr.two_steps(gram, np.zeros(len(j)))):
        assert np.isfinite(weights).all()


@pytest.mark.parametrize("j", MANY, ids=lambda j: str(j.shape))
def test_pcgrad(j):
    for seed in range(5):
        order = orders.draw(np.random.default_rng(seed), len(j))
        np.testing.assert_allclose(pcgrad.surgery(j @ j.T, order) @ j, references.pcgrad(j, order), atol=1e-9)


def test_pcgrad_draws_an_order_for_each_task():
    found = build("method: PCGRAD", seed=3).weights(seen()) @ J
    order = orders.draw(np.random.default_rng(3), 3)
    np.testing.assert_allclose(found, references.pcgrad(J, order))
    assert len({tuple(map(tuple, orders.draw(np.random.default_rng(i), 3))) for i in range(30)}) == 8


@pytest.mark.parametrize("j", MANY, ids=lambda j: str(j.shape))
def test_gradvac(j):
    targets = RANDOM.uniform(-0.9, 0.9, (len(j), len(j)))
    order = orders.draw(RANDOM, len(j))
    weights, moved = gradvac.vaccinated(j @ j.T, targets, order, 0.1)
    expected, expected_targets = references.gradvac(j, targets, order, 0.1)
    np.testing.assert_allclose(weights @ j, expected, atol=1e-9)
    np.testing.assert_allclose(moved, expected_targets, atol=1e-12)


def test_gradvac_turns_to_the_target():
    j = np.array([[1.0, 0.2], [-0.5, 1]])
    weights, _ = gradvac.vaccinated(j @ j.T, np.full((2, 2), 0.3), [[1], []], 0.01)
    turned = j[0] + weights[1] * j[1] - j[1]  # the second gradient stays as it is
    assert turned @ j[1] / np.linalg.norm(turned) / np.linalg.norm(j[1]) == pytest.approx(0.3)


def test_gradvac_targets_start_at_zero():
    method = build("method: GRADVAC", ["a", "b"], [False, False])
    j = np.array([[1.0, 0], [0.6, 0.8]])
    method.weights(seen(j))
    np.testing.assert_allclose(method.targets, [[0, 0.006], [0.006, 0]])


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("j", [j for j in MANY if len(j) < 4], ids=lambda j: str(j.shape))
def test_cagrad(j, c):
    found = cagrad.conflict_averse(j @ j.T, c) @ j
    g0, worst = j.mean(axis=0), (j @ found).min()
    assert np.linalg.norm(found - g0) <= c * np.linalg.norm(g0) * (1 + 1e-9)
    reference = references.cagrad(j, c)
    assert worst >= (j @ reference).min() - 1e-9  # the grid misses the best a little
    np.testing.assert_allclose(found, reference, atol=0.03 * np.linalg.norm(g0))


def test_cagrad_without_distance_is_the_mean():
    np.testing.assert_allclose(build("method: CAGRAD cagrad { c: 0 }").weights(seen()), [1 / 3] * 3)


@pytest.mark.parametrize("j", [j for j in MANY if len(j) <= j.shape[1]], ids=lambda j: str(j.shape))
def test_pe_ltr(j):
    for least in (np.zeros(len(j)), np.full(len(j), 0.5 / len(j)), np.full(len(j), 1 / len(j))):
        found = pe_ltr.two_steps(j @ j.T, least)
        np.testing.assert_allclose(found, references.pe_ltr(j, least), atol=1e-6)
        assert (found >= least - 1e-9).all() and found.sum() == pytest.approx(1)


def test_pe_ltr_has_least_weights():
    method = build('method: PE_LTR task { loss: "a" min_weight: 0.7 } task { loss: "b" } task { loss: "c" }')
    assert method.weights(seen())[0] >= 0.7 - 1e-6
    with pytest.raises(ConfigError) as caught:
        build('method: PE_LTR task { loss: "a" min_weight: 0.7 } task { loss: "b" min_weight: 0.4 }')
    assert "sum to more than 1: [0.7, 0.4] sum to 1.1" in str(caught.value)


def test_uncertainty_follows_the_gradient_of_its_objective():
    method = build("method: UNCERTAINTY", regression=(False, True, False))
    losses, half, s = np.array([2.0, 3.0, 0.1]), np.array([1, 0.5, 1]), np.zeros(3)

    def objective(s):
        return (half * np.exp(-s) * losses + s / 2).sum()

    for t in range(1, 4):
        np.testing.assert_allclose(method.weights(seen(losses=losses, t=t)), half * np.exp(-s))
        step = np.eye(3) * 1e-5
        s = s - 0.1 * np.array([(objective(s + e) - objective(s - e)) / 2e-5 for e in step])
        np.testing.assert_allclose(method.log_variance.values, s, atol=1e-8)


def test_gradnorm_follows_the_gradient_of_its_loss():
    method = build("method: GRADNORM gradnorm { alpha: 1.5 }")
    layer, w = J[:, :2], np.ones(3)
    norms = np.linalg.norm(layer, axis=1)
    for t, losses in enumerate(([2, 1, 4], [1, 0.9, 1], [0.5, 0.5, 0.9]), 1):
        np.testing.assert_allclose(method.weights(seen(losses=losses, layer=layer, t=t)), w)
        ratios = np.array(losses) / [2, 1, 4]
        target = (w * norms).mean() * (ratios / ratios.mean()) ** 1.5

        def loss(w, target=target):
            return np.abs(w * norms - target).sum()

        w = w - 0.1 * np.array([(loss(w + e) - loss(w - e)) / 2e-6 for e in np.eye(3) * 1e-6])
        w = w * 3 / w.sum()
        np.testing.assert_allclose(method.learned.values, w, atol=1e-6)


def test_gradnorm_of_equal_tasks_stays():
    assert gradnorm.weight_gradient(np.ones(2), np.ones(2), np.ones(2), 1.5).tolist() == [0, 0]


def test_dwa():
    method = build("method: DWA dwa { temperature: 2 period: 2 }")
    losses = [[4, 4, 4], [2, 2, 2], [1, 2, 3], [1, 2, 3], [9, 9, 9]]
    found = [method.weights(seen(losses=values)) for values in losses]
    assert all(w.tolist() == [1, 1, 1] for w in found[:4])
    r = np.exp(np.array([1, 2, 3]) / 3 / 2)
    np.testing.assert_allclose(found[4], 3 * r / r.sum())
    assert dwa.weights(np.ones(2), np.ones(2), 2).tolist() == [1, 1]


@pytest.mark.parametrize("method", MultiTaskParameter.Method.keys())
def test_state_goes_on(method):
    definition = f"method: {method} dwa {{ period: 2 }}"
    one, other = build(definition), build(definition, seed=9)
    grads = [RANDOM.normal(size=(3, 4)) for _ in range(12)]

    def run(objective, which):
        return [objective.weights(seen(grads[t], losses=abs(grads[t]).sum(1), t=t + 1)) for t in which]

    run(one, range(6))
    other.set_state(one.state())
    np.testing.assert_array_equal(run(one, range(6, 12)), run(other, range(6, 12)))


def test_projection_on_the_simplex():
    for x in RANDOM.normal(size=(20, 4)):
        found = simplex.projection(x, 0.7)
        grid = 0.7 * references.simplex_grid(4, 20)
        assert found.min() >= 0 and found.sum() == pytest.approx(0.7)
        assert np.linalg.norm(found - x) <= np.linalg.norm(grid - x, axis=1).min() + 1e-12


@pytest.mark.parametrize("j", MANY, ids=lambda j: str(j.shape))
def test_torchjd_agrees(j):
    torch, torchjd = pytest.importorskip("torch"), pytest.importorskip("torchjd.aggregation")
    jacobian = torch.tensor(j)
    found = mgda.min_norm(j @ j.T) @ j
    peer = torchjd.MGDA(epsilon=1e-12, max_iters=20000)(jacobian).numpy() if len(j) < 4 else found
    np.testing.assert_allclose(found, peer, atol=1e-2 * np.abs(j).max())
    if len(j) == 2:  # the order is of no account
        order = orders.draw(RANDOM, 2)
        np.testing.assert_allclose(pcgrad.surgery(j @ j.T, order) @ j, torchjd.PCGrad()(jacobian).numpy(), atol=1e-9)


@pytest.mark.parametrize("j", MANY, ids=lambda j: str(j.shape))
def test_torchjd_agrees_on_cagrad(j):
    torch, torchjd = pytest.importorskip("torch"), pytest.importorskip("torchjd.aggregation")
    pytest.importorskip("cvxpy"), pytest.importorskip("clarabel")
    peer = torchjd.CAGrad(c=0.5)(torch.tensor(j)).numpy()
    np.testing.assert_allclose(cagrad.conflict_averse(j @ j.T, 0.5) @ j, peer, atol=2e-3 * np.abs(j).max())
