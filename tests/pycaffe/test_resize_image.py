"""`caffe.io.resize_image`: the numbers of scikit-image for 1 and 3 channels, of SciPy's zoom for all others."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.pycaffe import io

# Recorded with scikit-image's resize(mode="constant", anti_aliasing=False) and SciPy's zoom of the row [1, 3, 2].
RECORDED = {
    (1, 1, 6): [1, 1.5, 2.5, 2.75, 2.25, 1.75],
    (3, 1, 2): [1.5, 2.25],
    (1, 0, 6): [1, 1, 3, 3, 2, 2],
    (2, 1, 6): [1, 1.8, 2.6, 2.8, 2.4, 2],
    (2, 1, 2): [1, 2],
}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels, order, size", RECORDED)
def test_recorded_rows(channels, order, size, transposed):
    row = np.repeat(np.array([[1, 3, 2]], np.float32)[:, :, None], channels, axis=2)
    dims = (1, size)
    if transposed:
        row, dims = row.transpose(1, 0, 2), dims[::-1]
    resized = io.resize_image(row, dims, interp_order=order)
    assert resized.shape == (*dims, channels) and resized.dtype == np.float32
    expected = RECORDED[channels, order, size]
    for channel in range(channels):
        np.testing.assert_allclose(resized[:, :, channel].ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_one_colour_and_one_size_are_kept(channels):
    np.testing.assert_array_equal(io.resize_image(np.full((3, 4, channels), 7), (5, 9)), 7)
    picture = np.random.default_rng(0).random((3, 4, channels), np.float32)
    np.testing.assert_array_equal(io.resize_image(picture, (3, 4)), picture)


def test_wrong_calls_are_named():
    with pytest.raises(ConfigError, match="interp_order must be 0"):
        io.resize_image(np.ones((2, 2, 1)), (3, 3), interp_order=3)
    with pytest.raises(ShapeError, match=r"\(height, width\)"):
        io.resize_image(np.ones((2, 2, 1)), (3, 0))
    with pytest.raises(ShapeError, match="no pixels"):
        io.resize_image(np.ones((0, 2, 1)), (3, 3))
