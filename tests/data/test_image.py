"""Decoding, encoding and resizing of pictures; the recorded batches check the exact values."""

from __future__ import annotations

import builtins
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from caffepy.data import image
from caffepy.errors import DataError, MissingExtraError
from tests.data.sources import pictures


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_gives_back_what_was_encoded(channels):
    (picture,) = pictures(1, channels=channels)
    assert np.array_equal(image.decode(image.encode(picture, "png"), ""), picture)


def test_channels_are_blue_green_red():
    out = BytesIO()
    Image.new("RGB", (2, 2), (10, 20, 30)).save(out, "PNG")
    assert image.decode(out.getvalue(), "")[:, 0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_every_mode_decodes(mode, channels):
    out = BytesIO()
    Image.new(mode, (5, 4)).save(out, "TIFF" if mode in ("CMYK", "LA") else "PNG")
    stored = {"1": 1, "L": 1, "I;16": 1, "RGBA": 4, "LA": 4}.get(mode, 3)
    assert image.decode(out.getvalue(), "", channels).shape == (channels or stored, 4, 5)


def test_16_bit_gray_keeps_its_upper_byte():
    out = BytesIO()
    Image.fromarray(np.array([[0x1234, 0xFFFF]], np.uint16)).save(out, "PNG")
    assert image.decode(out.getvalue(), "").tolist() == [[[0x12, 0xFF]]]


def test_exif_turns_photographs_but_not_what_is_kept_as_stored():
    out = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(out, "JPEG", exif=exif)
    assert image.decode(out.getvalue(), "", 3).shape == (3, 8, 4)
    assert image.decode(out.getvalue(), "", 1).shape == (1, 8, 4)
    assert image.decode(out.getvalue(), "", 0).shape == (3, 4, 8)


@pytest.mark.parametrize("size", [(5, 5), (24, 20), (12, 5), (40, 3), (1, 1)])
def test_resizing_is_bilinear(size):
    (picture,) = pictures(1, 12, 10)
    old = np.array(picture.shape[1:])
    at = [((np.arange(n) + 0.5) * o / n - 0.5).clip(0, o - 1) for n, o in zip(size, old)]
    low = [np.minimum(np.floor(a).astype(int), o - 1) for a, o in zip(at, old)]
    high = [np.minimum(i + 1, o - 1) for i, o in zip(low, old)]
    y, x = (a - i for a, i in zip(at, low))
    rows = picture[:, low[0]] * (1 - y)[:, None] + picture[:, high[0]] * y[:, None]
    expected = rows[:, :, low[1]] * (1 - x) + rows[:, :, high[1]] * x
    assert np.abs(image.resize(picture, *size) - expected).max() <= 1


def test_equal_size_is_unchanged():
    (picture,) = pictures(1)
    assert image.resize(picture, 12, 10) is picture


@pytest.mark.parametrize("data", [b"", b"text", image.encode(pictures(1)[0], "png")[:60]])
def test_what_is_no_picture(data):
    with pytest.raises(DataError, match=r"here: the picture does not decode"):
        image.decode(data, "here")


def test_a_truncated_jpeg():
    data = image.encode(pictures(1, 64, 64)[0], "jpg")
    with pytest.raises(DataError, match="truncated"):
        image.decode(data[: len(data) // 2], "here", 3)


def test_unknown_types_are_not_encoded():
    with pytest.raises(DataError, match='cannot encode pictures as "xyz"'):
        image.encode(pictures(1)[0], "xyz")


def test_without_pillow(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    image._pillow.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "caffepy\[images\]"'):
        image.decode(b"", "")
