"""Changes of colour against their definitions, and against OpenCV's colour spaces."""

from __future__ import annotations

import colorsys
import re

import numpy as np
import pytest

from caffepy.data.pictures import distortion
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import DistortionParameter

PICTURE = np.random.default_rng(2).integers(0, 256, (3, 7, 9), np.uint8)
PICTURE[:, 0] = [[0], [100], [255]]  # and rows without colour, with full colour
PICTURE[:, 1] = 77


def param(fields: str) -> DistortionParameter:
    return text.parse(fields, DistortionParameter())


def through_hsv(change) -> np.ndarray:
    """Each pixel with other hue, saturation and value."""
    out = np.empty(PICTURE.shape)
    for at in np.ndindex(PICTURE.shape[1:]):
        blue, green, red = PICTURE[(slice(None), *at)] / 255
        red, green, blue = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(red, green, blue)))
        out[(slice(None), *at)] = blue * 255, green * 255, red * 255
    return out


def test_brightness_and_contrast():
    x = PICTURE.astype(float)
    assert np.array_equal(distortion.brightness(PICTURE, 20.4), np.rint(x + 20.4).clip(0, 255))
    assert np.array_equal(distortion.brightness(PICTURE, -30), (x - 30).clip(0, 255))
    assert np.array_equal(distortion.contrast(PICTURE, 1.3), np.rint(x * 1.3).clip(0, 255))


@pytest.mark.parametrize("factor", [0, 0.5, 1, 1.5, 9])
def test_saturation(factor):
    expected = through_hsv(lambda h, s, v: (h, min(1, s * factor), v))
    assert abs(distortion.saturation(PICTURE, factor) - expected).max() <= 0.51


@pytest.mark.parametrize("delta", [0, 20, -20, 100, 200])
def test_hue(delta):
    """A turn is 180; below 0 it stays 0, as in OpenCV's bytes."""
    expected = through_hsv(lambda h, s, v: (min(max(h * 180 + delta, 0), 255) / 180 % 1, s, v))
    assert abs(distortion.hue(PICTURE, delta) - expected).max() <= 0.51


@pytest.mark.parametrize("kind, value", [("saturation", 1.4), ("saturation", 0.6), ("hue", 15), ("hue", -15)])
def test_near_what_opencv_makes(kind, value):
    """Its hue and saturation are rounded to bytes, ours are not."""
    cv2 = pytest.importorskip("cv2")
    smooth = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8), (0, 0), 4)
    hsv = cv2.cvtColor(smooth, cv2.COLOR_BGR2HSV).astype(float)
    if kind == "hue":
        hsv[..., 0] = (hsv[..., 0] + value).clip(0, 255)
    else:
        hsv[..., 1] = np.rint(hsv[..., 1] * value).clip(0, 255)
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR).astype(float)
    ours = distortion.STEPS[kind](smooth.transpose(2, 0, 1), value).transpose(1, 2, 0)
    assert abs(ours - expected).mean() < 1


ALL = (
    "brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5 "
    "hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 "
    "random_order_prob: 0.5"
)


def test_how_often():
    random, p = np.random.default_rng(0), param("brightness_prob: 0.3 brightness_delta: 32")
    changed = [not np.array_equal(distortion.distorted(PICTURE, p, random), PICTURE) for _ in range(400)]
    assert 90 < sum(changed) < 150


def test_the_order_of_contrast_is_drawn():
    """Contrast before or behind saturation: both results appear, under the same factors."""
    fields = "contrast_prob: 1 contrast_lower: 1.6 contrast_upper: 1.6 saturation_prob: 1 saturation_lower: 0.5"
    p = param(f"{fields} saturation_upper: 0.5")
    made = {distortion.distorted(PICTURE, p, np.random.default_rng(i)).tobytes() for i in range(20)}
    one = distortion.saturation(distortion.contrast(PICTURE, p.contrast_lower), 0.5)
    other = distortion.contrast(distortion.saturation(PICTURE, 0.5), p.contrast_lower)
    assert made == {one.tobytes(), other.tobytes()} and len(made) == 2


def test_gray_pictures_have_no_colour_to_change():
    gray = PICTURE[:1]
    for i in range(10):
        out = distortion.distorted(
            gray, param("hue_prob: 1 hue_delta: 90 random_order_prob: 1"), np.random.default_rng(i)
        )
        assert np.array_equal(out, gray)


def test_the_same_numbers_the_same_picture():
    one, other = (distortion.distorted(PICTURE, param(ALL), np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "fields, message",
    [
        ("contrast_lower: 2 contrast_upper: 1", "contrast_lower and _upper must be 0 <= lower <= upper, got 2 and 1"),
        ("saturation_lower: -1", "saturation_lower and _upper"),
        ("hue_delta: -3", "hue_delta must not be negative, got -3"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        distortion.check(param(fields))
