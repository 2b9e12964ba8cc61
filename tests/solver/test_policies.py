"""Learning-rate policies where they fail; their values are tested in test_features.py."""

from __future__ import annotations

import math
import sys

import pytest

from caffepy.errors import blamed
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import policies


def test_a_power_that_c_has_as_infinite_is_so():
    assert policies.learning_rate(SolverParameter(base_lr=1, lr_policy="exp", gamma=10), 10**6, 0) == math.inf
    falling = SolverParameter(base_lr=1, lr_policy="inv", gamma=0, power=-1)
    assert policies.learning_rate(falling, 3, 0) == 1


def inverse_of_iteration(p, iteration, step):
    return p.base_lr / iteration


def nothing(p, iteration, step):
    return None


@pytest.mark.parametrize(("function", "error"), [(inverse_of_iteration, ZeroDivisionError), (nothing, TypeError)])
def test_what_a_policy_of_ones_own_raises_names_it(function, error, monkeypatch):
    monkeypatch.setattr(policies, "_policies", policies._policies.copy() | {"mine": function})
    with pytest.raises(error) as caught:
        policies.learning_rate(SolverParameter(base_lr=1, lr_policy="mine"), 0, 0)
    said = str(blamed(caught.value))
    name = f"{__name__}.{function.__name__}"
    assert said.startswith(f"{name}: the rate of iteration 0 raised {error.__name__}: ")
    if function is inverse_of_iteration:
        assert said.splitlines()[1].strip() == f"At {sys.modules[__name__].__file__}:22."
