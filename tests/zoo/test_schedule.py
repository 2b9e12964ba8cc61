"""Sensible settings for the size of the data."""

from __future__ import annotations

import pytest

from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.zoo import schedule
from caffepy.zoo.schedule import Schedule

IMAGENET = Schedule(1_280_000, 256, 0, 50)  # 5,000 iterations an epoch


@pytest.mark.parametrize("records, batch", [(10**6, 256), (5120, 256), (5119, 128), (1200, 32), (45, 2), (3, 1)])
def test_an_epoch_has_at_least_twenty_iterations(records, batch):
    assert schedule.fitted(IMAGENET, records, 30) == Schedule(records, batch, 30, 30)


@pytest.mark.parametrize("records, batch, iter_size", [(10**6, 32, 8), (2000, 32, 2), (400, 16, 1)])
def test_batches_that_add_up_to_an_iteration(records, batch, iter_size):
    """VGG-16 takes 8 batches of 32."""
    published = Schedule(1_280_000, 32, 0, 50, 8)
    assert schedule.fitted(published, records, 99) == Schedule(records, batch, 99, 50, iter_size)
    assert schedule.fitted(published, records, 99, 64) == Schedule(records, 64, 99, 50, 1)
    solver = SolverParameter(base_lr=1, iter_size=8)
    found = schedule.fields(solver, published, schedule.fitted(published, records, 99), False)
    assert (found["base_lr"], found["iter_size"]) == (f"{batch * iter_size / 256:.4g}", str(iter_size))


def test_epochs_stay_and_the_rate_follows_the_batch():
    solver = SolverParameter(
        base_lr=0.01,
        max_iter=450_000,
        lr_policy="step",
        stepsize=100_000,
        test_iter=[1000],
        snapshot=10_000,
        display=20,
    )
    own = Schedule(1200, 32, 310, 50)  # 38 iterations an epoch
    assert schedule.fields(solver, IMAGENET, own, False) == {
        "base_lr": "0.00125",
        "max_iter": str(90 * 38),
        "stepsize": str(20 * 38),
        "test_iter": "7",
        "test_interval": "38",
        "display": "9",
        "snapshot": str(90 * 38 // 5),
    }
    assert schedule.fields(solver, IMAGENET, own, True)["max_iter"] == str(30 * 38)


@pytest.mark.parametrize("policy", ["inv", "exp"])
def test_rates_that_fall_with_each_iteration_fall_as_far_in_an_epoch(policy):
    own = Schedule(12_800, 256, 100, 50)  # 50 iterations an epoch, a hundredth
    found = schedule.fields(SolverParameter(lr_policy=policy, gamma=0.9999), IMAGENET, own, False)
    expected = 0.9999 * 100 if policy == "inv" else 0.9999**100
    assert float(found["gamma"]) == pytest.approx(expected, rel=1e-5)
