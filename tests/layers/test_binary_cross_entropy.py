"""BinaryCrossEntropy: values, masks and weights."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ShapeError
from tests.support import ENGINES, Built, assert_close

pytestmark = pytest.mark.parametrize("engine", ENGINES)
P = np.array([0.1, 0.7, 0.5, 0.9], "f4")
T = np.array([0, 1, 1, 0], "f4")
LOSSES = -np.log(np.where(T == 1, P, 1 - P))
LOGITS = "binary_cross_entropy_param { logits: true }"


def both(engine, *others, fields=""):
    """The loss of probabilities and that of their logits."""
    for more, x in (("", P), (LOGITS, np.log(P / (1 - P)))):
        built = Built(f'type: "BinaryCrossEntropy" {more} {fields}', x, T, *others, engine=engine)
        yield built, float(built.forward()[0])


def test_the_mean(engine):
    for _, loss in both(engine):
        assert loss == pytest.approx(LOSSES.mean(), rel=1e-5)


def test_a_task_has_its_own_samples(engine):
    mask = np.array([0, 1, 2, 0], "f4")
    for built, loss in both(engine, mask):
        assert loss == pytest.approx(LOSSES[1:3].mean(), rel=1e-5)
        gradient = built.backward(1.0, propagate_down=[True, False, False])[0]
        assert gradient[0] == gradient[3] == 0 and gradient[1:3].all()


def test_weights(engine):
    mask, weights = np.array([1, 1, 1, 0], "f4"), np.array([2, 0.5, 1, 7], "f4")
    for _, loss in both(engine, mask, weights):
        assert loss == pytest.approx((LOSSES * mask * weights).sum() / 3, rel=1e-5)


def test_a_mask_that_excludes_the_whole_batch(engine):
    for fields in ("", "loss_param { normalization: FULL }"):
        for built, loss in both(engine, 0 * P, fields=fields):
            assert loss == 0
            assert not built.backward(1.0, propagate_down=[True, False, False])[0].any()


def test_values_outside_the_mask_may_be_anything(engine):
    x, mask = np.array([np.nan, 0.5, np.inf, 0.5], "f4"), np.array([0, 1, 0, 1], "f4")
    target = np.array([1, 1, np.nan, 0], "f4")
    built = Built(f'type: "BinaryCrossEntropy" {LOGITS}', x, target, mask, engine=engine)
    assert np.isfinite(built.forward()[0])
    assert np.isfinite(built.backward(1.0, propagate_down=[True, False, False])[0]).all()


def test_certain_and_wrong(engine):
    built = Built('type: "BinaryCrossEntropy"', [0, 1], [1, 0], engine=engine)
    assert_close(built.forward()[0], -np.log(1e-7), 1e-2)
    assert np.isfinite(built.backward(1.0, propagate_down=[True, False])[0]).all()


def test_counts_that_differ(engine):
    with pytest.raises(ShapeError, match=r"and the mask bottom 2 \(4, 2\) must have the same count"):
        Built('type: "BinaryCrossEntropy"', P, T, np.ones((4, 2)), engine=engine)
