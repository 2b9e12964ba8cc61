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
        engine.conv(x, w, bias, y, window, CHANNELS)
        engine.conv_grad_weights(x, dy, dw, window, CHANNELS, db)
        engine.conv_grad_data(dy, w, dx, window, CHANNELS, bias)
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
            engine.conv(x, w, None, y, window, shape[1])
            engine.conv_grad_weights(x, y, dw, window, shape[1])
            engine.conv_grad_data(y, w, dx, window, shape[1])
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
    engine.conv(x, w, None, y, window, CHANNELS)
    again = np.zeros_like(y)
    without_it(monkeypatch)
    engine.conv(x, w, None, again, window, CHANNELS)
    assert_close(y, again)


def test_where_it_is_used():
    one, two = np.zeros((4, 3, 3, 1)), np.zeros((4, 3, 3, 2))
    square, wide = (Window((3, 3), (1, s), (1, 1), (1, 1)) for s in (1, 3))
    assert depthwise.fits(one, square, 4) and depthwise.fits(one, wide, 4)
    assert depthwise.fits_forward(one, square, 4)
    assert not depthwise.fits_forward(one, wide, 4)  # two of three columns would be computed in vain
    assert not depthwise.fits(two, square, 2)
    assert not depthwise.fits(one[:1], square, 1)
    assert not depthwise.fits(np.zeros((4, 3, 1)), Window((3,), (1,), (1,), (1,)), 4)
    assert conv.depthwise is depthwise
