"""noise_param, one kind after the other."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from caffepy.data.pictures import noise
from caffepy.errors import ConfigError, MissingExtraError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NoiseParameter

cv2 = pytest.importorskip("cv2")

PICTURE = np.random.default_rng(2).integers(0, 256, (3, 20, 30), np.uint8)
PIXELS = np.ascontiguousarray(PICTURE.transpose(1, 2, 0))


def spoilt(fields: str, picture=PICTURE) -> np.ndarray:
    p = text.parse(fields, NoiseParameter())
    noise.check(p)
    return noise.spoilt(picture, p, np.random.default_rng(0))


def test_nothing_on():
    assert np.array_equal(spoilt(""), PICTURE)


def test_colours():
    gray = spoilt("decolorize: true")
    assert np.array_equal(gray[0], cv2.cvtColor(PIXELS, cv2.COLOR_BGR2GRAY)) and (gray == gray[0]).all()
    assert np.array_equal(spoilt("inverse: true"), 255 - PICTURE)
    assert set(np.unique(spoilt("posterize: true"))) == {32, 96, 160, 224}
    hsv = cv2.cvtColor(PIXELS, cv2.COLOR_BGR2HSV)
    assert np.array_equal(spoilt("convert_to_hsv: true"), hsv.transpose(2, 0, 1))


def test_neighbours():
    assert np.array_equal(spoilt("gauss_blur: true"), cv2.GaussianBlur(PIXELS, (7, 7), 1.5).transpose(2, 0, 1))
    assert (spoilt("erode: true") <= PICTURE).all()
    assert (
        0 < abs(spoilt("jpeg: 95").astype(int) - PICTURE).mean() < abs(spoilt("jpeg: 10").astype(int) - PICTURE).mean()
    )


@pytest.mark.parametrize("kind", ["hist_eq", "clahe"])
def test_histograms(kind):
    dark = PICTURE // 4
    assert spoilt(f"{kind}: true", dark).max() > dark.max()
    assert spoilt(f"{kind}: true", dark[:1]).shape == (1, 20, 30)


def test_salt_and_pepper():
    out = spoilt("saltpepper: true saltpepper_param { fraction: 0.1 value: 255 }", 0 * PICTURE)
    assert 40 < (out[0] == 255).sum() <= 60 and (out == out[0]).all()
    out = spoilt("saltpepper: true saltpepper_param { fraction: 1 value: 1 value: 2 value: 3 }", 0 * PICTURE)
    assert [plane.max() for plane in out] == [1, 2, 3]


def test_one_after_the_other():
    both = spoilt("inverse: true posterize: true")
    assert np.array_equal(both, 255 - spoilt("posterize: true"))


@pytest.mark.parametrize("kind", ["decolorize", "gauss_blur", "hist_eq", "clahe", "erode", "posterize", "inverse"])
def test_gray_pictures(kind):
    assert spoilt(f"{kind}: true", PICTURE[:1]).shape == (1, 20, 30)


@pytest.mark.parametrize(
    "fields, message",
    [
        ("convert_to_lab: true", "convert_to_lab makes no picture of bytes"),
        ("saltpepper: true", "saltpepper_param.value is not set"),
        ("saltpepper_param { fraction: 2 }", "fraction must be in [0, 1], got 2"),
        ("saltpepper: true saltpepper_param { value: 1 value: 2 }", "2 saltpepper_param.value for 3 channels"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        spoilt(fields)


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="noise_param needs the package opencv-python-headless"):
        spoilt("inverse: true")
