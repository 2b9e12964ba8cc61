"""The displayed loss: the mean of the last ones."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.solver.loss import SmoothedLoss


@pytest.mark.parametrize("window", [0, 1, 3, 5])
def test_it_is_the_mean_of_the_last_ones(window):
    smoothed, given = SmoothedLoss(window), [4.0, 1.0, 7.0, 2.0, 9.0, 3.0]
    assert smoothed.value == 0
    for n, loss in enumerate(given, 1):
        smoothed.add(np.float32(loss))
        last = given[max(0, n - max(1, window)) : n]
        assert smoothed.value == pytest.approx(sum(last) / len(last))
        assert sorted(smoothed.losses) == sorted(last)


def test_a_loss_comes_to_the_host_when_somebody_looks():
    class OnDevice:
        fetched = 0

        def __float__(self):
            self.fetched += 1
            return 2.0

    smoothed, loss = SmoothedLoss(2), OnDevice()
    smoothed.add(loss)
    assert loss.fetched == 0
    assert (smoothed.value, smoothed.value, loss.fetched) == (2.0, 2.0, 1)


def test_what_a_device_has_still_to_compute_is_not_known():
    engine = NumpyEngine(threads=1)
    smoothed = SmoothedLoss(2)
    assert smoothed.is_known(engine)
    smoothed.add(np.float32(2))
    assert smoothed.is_known(engine)
    engine.lazy = True
    assert not smoothed.is_known(engine)
    assert smoothed.value == 2 and smoothed.is_known(engine)  # fetched by now


def test_it_goes_on_from_its_state():
    whole, resumed = SmoothedLoss(3), SmoothedLoss(3)
    for loss in (1.0, 2.0, 3.0, 4.0):
        whole.add(loss)
    resumed.set_state(whole.state())
    for loss in (5.0, 6.0):
        whole.add(loss), resumed.add(loss)
        assert resumed.state() == whole.state()
    assert whole.count == 6 and sorted(whole.losses) == [4, 5, 6]
