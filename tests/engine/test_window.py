"""The geometry of windows, against counting."""

from __future__ import annotations

from itertools import product

import pytest

from caffepy.engine.window import Window

CASES = [
    (kernel, stride, pad, dilation, size)
    for kernel, stride, pad, dilation, size in product((1, 2, 3, 5), (1, 2, 3), (0, 1, 4), (1, 2), (1, 4, 7))
    if size + 2 * pad >= dilation * (kernel - 1) + 1
]


def one(kernel: int, stride: int, pad: int, dilation: int) -> Window:
    return Window((kernel,), (stride,), (pad,), (dilation,))


@pytest.mark.parametrize("case", CASES)
def test_one_axis(case):
    kernel, stride, pad, dilation, size = case
    window = one(kernel, stride, pad, dilation)
    extent = dilation * (kernel - 1) + 1
    starts = [at for at in range(size + 2 * pad - extent + 1) if at % stride == 0]
    assert window.extent == (extent,)
    assert window.conv_shape((size,)) == (len(starts),)
    for k in range(kernel):
        seen = [(o, start + k * dilation - pad) for o, start in enumerate(starts)]
        seen = [(o, cell) for o, cell in seen if 0 <= cell < size]
        (outputs,), (cells,) = window.reach((k,), (size,), (len(starts),))
        assert list(zip(range(len(starts))[outputs], range(size)[cells])) == seen
        assert len(range(len(starts))[outputs]) == len(range(size)[cells])


@pytest.mark.parametrize("case", CASES)
def test_deconvolution_undoes_the_shape(case):
    kernel, stride, pad, dilation, size = case
    window = one(kernel, stride, pad, dilation)
    (large,) = window.deconv_shape((size,))
    if large > 0:
        assert window.conv_shape((large,)) == (size,)


def test_axes_are_independent():
    window = Window((3, 2), (1, 2), (1, 0), (1, 3))
    assert window.extent == (3, 4)
    assert window.conv_shape((5, 8)) == (5, 3)
    assert window.deconv_shape((5, 3)) == (5, 8)
    assert window.reach((0, 1), (5, 8), (5, 3)) == ((slice(1, 5), slice(0, 3)), (slice(0, 4, 1), slice(3, 8, 2)))


def test_no_axes():
    window = Window((), (), (), ())
    assert window.conv_shape(()) == () and window.reach((), (), ()) == ((), ())
