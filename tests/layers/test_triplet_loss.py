"""TripletLoss."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fields, margin", [("", 1), ("margin: 0.2", 0.2), ("alpha: 5", 5)])
@pytest.mark.parametrize("shape", [(8, 5), (8, 2, 3, 1)])
@pytest.mark.parametrize("labels", [False, True])
def test_values(shape, fields, margin, labels, engine):
    a, p, n = np.random.default_rng(1).standard_normal((3, *shape)).astype("f4")
    layer = f'type: "TripletLoss" triplet_loss_param {{ {fields} }} loss_weight: 3'
    built = Built(layer, a, p, n, *[np.zeros(8)] * labels, engine=engine)
    gaps = [np.sum((a[i] - p[i]) ** 2) - np.sum((a[i] - n[i]) ** 2) + margin for i in range(8)]
    assert {gap > 0 for gap in gaps} == {True, False} or margin == 5
    assert_close(built.forward()[0], sum(max(gap, 0) for gap in gaps) / 16)
    active = np.array([gap > 0 for gap in gaps]).reshape(-1, *[1] * (a.ndim - 1))
    found = built.backward(propagate_down=[True, True, True, False][: 3 + labels])
    for ours, reference in zip(found, (n - p, p - a, a - n)):
        assert_close(ours, 3 * active * reference / 8)


def test_refused():
    with pytest.raises(ConfigError, match=r"^both margin and alpha, two names for one thing, are given\n"):
        Built('type: "TripletLoss" triplet_loss_param { margin: 1 alpha: 1 }', *[np.ones((2, 3))] * 3)
    message = 'anchors, positives and negatives must have one shape, but "a" is (2, 3) and "n" is (2, 4)'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built('type: "TripletLoss" bottom: "a" bottom: "p" bottom: "n"', *map(np.ones, [(2, 3), (2, 3), (2, 4)]))
