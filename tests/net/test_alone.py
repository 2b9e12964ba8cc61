"""A layer without a net."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.net.alone import Alone
from caffepy.proto.caffe_pb2 import TEST, LayerParameter
from tests.support import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
def test_forward_and_backward(engine, in_place):
    relu = Alone('type: "ReLU"', [[-1, 2], [3, -4]], engine=engine, in_place=in_place)
    assert (relu.top[0] is relu.bottom[0]) is in_place
    np.testing.assert_array_equal(relu.forward(), [[[0, 2], [3, 0]]])
    np.testing.assert_array_equal(relu.backward(np.full((2, 2), 5)), [[[0, 5], [5, 0]]])


def test_from_a_message_in_a_phase_with_several_tops():
    param = LayerParameter(type="Slice", name="cut")
    cut = Alone(param, np.arange(6).reshape(1, 6), phase=TEST, tops=3)
    assert (cut.layer.name, cut.layer.phase) == ("cut", TEST)
    np.testing.assert_array_equal(cut.forward(), [[[0, 1]], [[2, 3]], [[4, 5]]])
