"""SeLu and SeLuDropout."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import TEST
from tests.layers.activation import EXTREMES, SHAPES, check, normal
from tests.support import ENGINES, Built, assert_close

ALPHA, SCALE = 1.67326324, 1.05070099


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("x", [*map(normal, SHAPES), EXTREMES])
def test_values(x, in_place, engine):
    def y(x):
        return SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0)))

    def slope(x):
        return SCALE * np.where(x > 0, 1, ALPHA * np.exp(np.minimum(x, 0)))

    check('type: "SeLu"', x, y, slope, engine, in_place)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_dropout_keeps_mean_and_variance(ratio, engine):
    rng.seed(1)
    x = np.random.default_rng(1).standard_normal((50, 2000)).astype("f4")
    built = Built(f'type: "SeLuDropout" selu_dropout_param {{ dropout_ratio: {ratio} }}', x, engine=engine)
    y = built.forward()[0]
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.02
    found, times = np.unique(y, return_counts=True)
    dropped = y == found[np.argmax(times)]
    assert abs(dropped.mean() - ratio) < 0.01
    a = (y[~dropped].max() - y[~dropped].min()) / (x[~dropped].max() - x[~dropped].min())
    assert_close(built.backward(np.ones_like(x))[0], np.where(dropped, 0, a), 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_does_nothing_in_test(in_place, engine):
    built = Built('type: "SeLuDropout"', x := normal((3, 4)), engine=engine, phase=TEST)
    if in_place:
        built.top = built.bottom
    assert_close(built.forward()[0], x, 0)
    assert_close(built.backward(x + 1)[0], x + 1, 0)


def test_refused():
    with pytest.raises(ConfigError, match=r"^dropout_ratio must lie between 0 and 1, both excluded, got 1$"):
        Built('type: "SeLuDropout" selu_dropout_param { dropout_ratio: 1 }', np.ones(3))
