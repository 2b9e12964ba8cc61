"""resize_param: sizes, padding, interpolation, and boxes there and back."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.data.pictures import image, resizing
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import ResizeParameter

PICTURE = np.random.default_rng(2).integers(0, 256, (3, 20, 40), np.uint8)
BOXES = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]], np.float32)
LARGE, SMALL = "resize_mode: FIT_LARGE_SIZE_AND_PAD", "resize_mode: FIT_SMALL_SIZE"


def param(fields: str) -> ResizeParameter:
    return text.parse(f"height: 30 width: 30 {fields}", ResizeParameter())


def test_warp():
    assert np.array_equal(resizing.resized(PICTURE, param("")), image.resize(PICTURE, 30, 30))


def test_fit_the_larger_side_and_pad():
    out = resizing.resized(PICTURE, param(f"{LARGE} pad_value: 1 pad_value: 2 pad_value: 3"))
    assert out.shape == (3, 30, 30)
    assert np.array_equal(out[:, 7:22], image.resize(PICTURE, 15, 30))
    assert all((out[c, :7] == c + 1).all() and (out[c, 22:] == c + 1).all() for c in range(3))
    tall = resizing.resized(PICTURE.transpose(0, 2, 1), param(LARGE))
    assert not tall[:, :, :7].any() and tall[:, :, 7:22].any()


@pytest.mark.parametrize("mode, border", [("MIRRORED", "BORDER_REFLECT101"), ("REPEAT_NEAREST", "BORDER_REPLICATE")])
def test_other_paddings(mode, border):
    cv2 = pytest.importorskip("cv2")
    inner = image.resize(PICTURE, 15, 30).transpose(1, 2, 0)
    expected = cv2.copyMakeBorder(np.ascontiguousarray(inner), 7, 8, 0, 0, getattr(cv2, border))
    out = resizing.resized(PICTURE, param(f"{LARGE} pad_mode: {mode}"))
    assert np.array_equal(out.transpose(1, 2, 0), expected)


def test_fit_the_smaller_side():
    assert resizing.resized(PICTURE, param(SMALL)).shape == (3, 30, 60)
    assert resizing.resized(PICTURE.transpose(0, 2, 1), param(SMALL)).shape == (3, 60, 30)


@pytest.mark.parametrize("mode", ResizeParameter.Interp_mode.keys())
def test_interpolation_is_opencvs(mode):
    cv2 = pytest.importorskip("cv2")
    expected = cv2.resize(
        np.ascontiguousarray(PICTURE.transpose(1, 2, 0)), (30, 30), interpolation=getattr(cv2, f"INTER_{mode}")
    )
    out = resizing.resized(PICTURE, param(f"interp_mode: {mode}"))
    assert abs(out.transpose(1, 2, 0).astype(int) - expected).max() <= (1 if mode == "LINEAR" else 0)
    gray = resizing.resized(PICTURE[:1], param(f"interp_mode: {mode}"))
    assert gray.shape == (1, 30, 30) and np.array_equal(gray[0], out[0])


@pytest.mark.parametrize("mode", ["AREA", "NEAREST", "CUBIC", "LANCZOS4"])
def test_interpolation_without_opencv(mode, monkeypatch):
    smooth = image.resize(PICTURE, 240, 480)
    expected = image.resize(smooth, 160, 320, mode)
    monkeypatch.setattr(image, "_opencv", lambda: None)
    out = image.resize(smooth, 160, 320, mode)
    assert out.shape == (3, 160, 320) and out.dtype == np.uint8
    assert abs(out.astype(int) - expected).mean() < 6


def test_one_of_several_interpolations_is_drawn():
    p = param("interp_mode: NEAREST interp_mode: LINEAR")
    made = {resizing.resized(PICTURE, p, np.random.default_rng(i)).tobytes() for i in range(20)}
    assert made == {image.resize(PICTURE, 30, 30, mode).tobytes() for mode in ("NEAREST", "LINEAR")}


@pytest.mark.parametrize("fields", ["", LARGE, SMALL])
@pytest.mark.parametrize("height, width", [(20, 40), (40, 20), (30, 30)])
def test_boxes_there_and_back(height, width, fields):
    there = resizing.moved(BOXES, param(fields), height, width)
    back = resizing.in_pixels(there, param(fields), height, width)
    assert np.allclose(back, BOXES * [width, height, width, height], atol=1e-4)


def test_boxes_beside_padding():
    there = resizing.moved(BOXES, param(LARGE), 20, 40)
    assert np.allclose(there, [[0, 0.25, 1, 0.75], [0.25, 0.5, 0.5, 0.75]])


def test_boxes_as_shares_of_another_size():
    """A picture of 20 x 40 becomes 30 x 60; of that a crop of half the height; boxes count in units of 15 x 20."""
    p, crop = param(f"{SMALL} height_scale: 15 width_scale: 20"), np.array([0, 0, 1, 0.5], np.float32)
    stretched = resizing.stretched(BOXES, p, 20, 40, crop)
    assert np.allclose(stretched, BOXES * [3, 1, 3, 1])
    assert np.allclose(resizing.in_pixels(stretched, p, 15, 60), BOXES * [60, 15, 60, 15])
    assert resizing.stretched(BOXES, param(SMALL), 20, 40, crop) is BOXES


def test_no_resizing():
    assert np.allclose(resizing.in_pixels(BOXES - 0.1, None, 10, 20)[1], [3, 4, 8, 9])


def test_refusals():
    with pytest.raises(ConfigError, match="needs height and width"):
        resizing.check(ResizeParameter(height=3))
    with pytest.raises(ConfigError, match=re.escape("2 pad_value for 3 channels; give one, or one for each")):
        resizing.resized(PICTURE, param(f"{LARGE} pad_value: 1 pad_value: 2"))
