"""Dropout: which values it keeps, how it scales them, and that backward uses the same mask."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close


def build(ratio, x, engine, **options):
    return Built(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', x, engine=engine, **options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_train(ratio, in_place, engine):
    rng.seed(1)
    x = 1 + np.random.default_rng(1).random((20, 10, 7, 9)).astype("f4")
    built = build(ratio, x, engine)
    if in_place:
        built.top = built.bottom
    (y,) = built.forward()
    kept = y != 0
    assert abs(kept.mean() - (1 - ratio)) < 0.02
    assert abs(kept.mean(axis=(0, 2, 3)) - (1 - ratio)).max() < 0.05  # in every channel
    assert_close(y, x * kept / (1 - ratio))
    dy = x[::-1].copy()
    assert_close(built.backward(dy)[0], dy * kept / (1 - ratio))
    if not in_place:
        assert (built.forward()[0] != y).any()  # a new mask each pass


@pytest.mark.parametrize("engine", ENGINES)
def test_the_seed_decides(engine):
    x = np.ones((5, 6), "f4")
    masks = []
    for _ in range(2):
        rng.seed(7)
        masks.append(build(0.5, x, engine).forward()[0])
    assert (masks[0] == masks[1]).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
def test_test_is_the_identity(in_place, engine):
    x, dy = np.random.default_rng(2).standard_normal((2, 3, 4)).astype("f4")
    built = build(0.5, x, engine, phase=TEST)
    if in_place:
        built.top = built.bottom
    assert_close(built.forward()[0], x, 0)
    assert_close(built.backward(dy)[0], dy, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
def test_scaled_in_test_instead(in_place, engine):
    """As Faster R-CNN's Caffe does it."""
    x, dy = 1 + np.random.default_rng(2).random((2, 30, 40)).astype("f4")
    fields = 'type: "Dropout" dropout_param { dropout_ratio: 0.2 scale_train: false }'
    train, test = Built(fields, x, engine=engine), Built(fields, x, engine=engine, phase=TEST)
    if in_place:
        train.top, test.top = train.bottom, test.bottom
    y = train.forward()[0]
    assert_close(y, x * (y != 0), 0)
    assert_close(train.backward(dy)[0], dy * (y != 0), 0)
    assert_close(test.forward()[0], 0.8 * x)
    assert_close(test.backward(dy)[0], 0.8 * dy)


@pytest.mark.parametrize("engine", ENGINES)
def test_empty(engine):
    assert build(0.5, np.zeros((0, 3)), engine).forward()[0].shape == (0, 3)


@pytest.mark.parametrize("ratio", [0, 1, -0.5, 1.5])
def test_refused(ratio):
    message = f"dropout_ratio must lie between 0 and 1, both excluded, got {ratio:g}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        build(ratio, np.zeros(3), "numpy")
