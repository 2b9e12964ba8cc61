"""Depthwise convolution: against the general one, which multiplies columns, for every geometry."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from caffepy.engine.numpy import conv, depthwise
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.engine.window import Window
from tests.engine.numpy.test_engine import channels_last, random
from tests.support import assert_close

CHANNELS = 4
GEOMETRIES = [
    Window((kernel, 3), (stride, other), (pad, 1), (dilation, 2))
    for kernel, stride, other, pad, dilation in product((1, 2, 3, 5), (1, 2, 3), (1, 2), (0, 1, 3), (1, 2))
]
ROOM = [w for w in GEOMETRIES if min(w.conv_shape((7, 6))) > 0]


def without_it(monkeypatch):
    monkeypatch.setattr(depthwise, "fits", lambda *_: False)


@pytest.mark.parametrize("bias", [None, random((CHANNELS,), 3)], ids=["plain", "bias"])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_the_same_as_the_general_one(n, bias, monkeypatch):
    engine = NumpyEngine(2)

    def results(window: Window) -> list[np.ndarray]:
        x, w = channels_last(random((n, CHANNELS, 7, 6))), random((CHANNELS, 1, *window.kernel), 1)
        dy = channels_last(random((n, CHANNELS, *window.conv_shape((7, 6))), 2))
        y, dw, dx = np.zeros_like(dy), np.ones_like(w), np.zeros_like(x)
        db = None if bias is None else np.ones_like(bias)
        plan = engine.conv_plan(x.shape, w.shape, window, CHANNELS)
        engine.conv(x, w, bias, y, plan)
        engine.conv_grad_weights(x, dy, dw, plan, db)
        engine.conv_grad_data(dy, w, dx, plan, bias)
        return [y, dw, dx, *([] if db is None else [db])]

    ours = [results(window) for window in ROOM]
    without_it(monkeypatch)
    for window, mine in zip(ROOM, ours):
        for array, reference in zip(mine, results(window)):
            assert_close(array, reference)


def test_a_large_image_and_many_small_ones(monkeypatch):
    engine, window = NumpyEngine(2), Window((3, 3), (1, 1), (1, 1), (1, 1))
    shapes = [(1, 32, 200, 180), (40, 64, 7, 7)]

    def results() -> list[np.ndarray]:
        found = []
        for shape in shapes:
            x, w = channels_last(random(shape)), random((shape[1], 1, 3, 3), 1)
            y, dw, dx = np.zeros_like(x), np.zeros_like(w), np.zeros_like(x)
            plan = engine.conv_plan(x.shape, w.shape, window, shape[1])
            engine.conv(x, w, None, y, plan)
            engine.conv_grad_weights(x, y, dw, plan)
            engine.conv_grad_data(y, w, dx, plan)
            found += [y, dw, dx]
        return found

    ours = results()
    without_it(monkeypatch)
    for array, reference in zip(ours, results()):
        assert_close(array, reference)


def test_memory_in_another_order(monkeypatch):
    """A blob that shares its memory with one of another shape is not stored channels-last."""
    engine, window = NumpyEngine(2), Window((3, 3), (1, 1), (0, 0), (1, 1))
    x, w, y = random((2, CHANNELS, 6, 5)), random((CHANNELS, 1, 3, 3), 1), np.zeros((2, CHANNELS, 4, 3), "f4")
    engine.conv(x, w, None, y, engine.conv_plan(x.shape, w.shape, window, CHANNELS))
    again = np.zeros_like(y)
    without_it(monkeypatch)
    engine.conv(x, w, None, again, engine.conv_plan(x.shape, w.shape, window, CHANNELS))
    assert_close(y, again)


def plan(w, stride=1, group=4, kernel=(3, 3), channels=4) -> conv.ConvPlan:
    window = Window(kernel, (1, stride)[: len(kernel)], (1, 1)[: len(kernel)], (1, 1)[: len(kernel)])
    return NumpyEngine(1).conv_plan((2, channels, 7, 6)[: 2 + len(kernel)], (*w, *kernel), window, group)


def test_where_it_is_used():
    for stride in (1, 2):
        used = plan((4, 1), stride)
        assert isinstance(used.products, depthwise.Depthwise) and used.back is used.products
    wide = plan((4, 1), 3)  # two of three columns would be computed in vain
    assert not isinstance(wide.products, depthwise.Depthwise) and isinstance(wide.back, depthwise.Depthwise)
    others = plan((4, 2), group=2), plan((8, 1)), plan((1, 1), group=1, channels=1), plan((4, 1), kernel=(3,))
    for other in others:
        assert not {depthwise.Depthwise} & {type(other.products), type(other.back)}
