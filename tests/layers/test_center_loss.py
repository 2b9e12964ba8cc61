"""CenterLoss."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "shape, fields", [((6, 5), ""), ((6, 2, 3, 1), ""), ((6, 4), "axis: -1"), ((2, 3, 4), "axis: 2")]
)
def test_values(shape, fields, engine):
    random = np.random.default_rng(1)
    x, labels = random.standard_normal(shape).astype("f4"), np.array([2, 0, 2, 2, 1, 0])
    fields = f'num_output: 4 {fields} center_filler {{ type: "gaussian" }}'
    built = Built(f'type: "CenterLoss" center_loss_param {{ {fields} }} loss_weight: 0.5', x, labels, engine=engine)
    centres = built.host(built.layer.blobs[0].data)
    rows = x.reshape(6, -1)
    assert centres.shape == (4, rows.shape[1]) and centres.any()
    difference = rows - centres[labels]
    assert_close(built.forward()[0], np.sum(difference**2) / 12)
    built.layer.blobs[0].diff[...] = 1  # added to
    dx = built.backward(propagate_down=[True, False])[0]
    assert_close(dx, 0.5 * difference.reshape(shape) / 6)
    moves = [sum(-difference[labels == k], np.zeros(rows.shape[1])) / (1 + np.sum(labels == k)) for k in range(4)]
    assert_close(built.host(built.layer.blobs[0].diff), 1 + np.array(moves))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_label_outside(engine):
    layer = 'type: "CenterLoss" bottom: "x" bottom: "l" center_loss_param { num_output: 2 }'
    built = Built(layer, np.ones((3, 4)), np.array([0, 1, 2]), engine=engine)
    with pytest.raises(DataError, match=re.escape('label 2 at position (2,) of "l" is outside 0 .. 1')):
        built.forward()


def test_refused():
    with pytest.raises(ConfigError, match=r"^center_loss_param.num_output must be the number of classes, at least 1$"):
        Built('type: "CenterLoss"', np.ones((3, 4)), np.zeros(3))
    with pytest.raises(ShapeError, match=re.escape('"x" (3, 4) must have 4 features for each of the 2 labels "l"')):
        layer = 'type: "CenterLoss" bottom: "x" bottom: "l" center_loss_param { num_output: 2 }'
        Built(layer, np.ones((3, 4)), np.zeros(2))
