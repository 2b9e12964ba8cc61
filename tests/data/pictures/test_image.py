"""Decoding, encoding and resizing of pictures; the recorded batches check the exact values."""

from __future__ import annotations

import builtins
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from caffepy.data.pictures import image
from caffepy.errors import DataError, MissingExtraError
from tests.data.databases import pictures


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

    image.pillow.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "caffepy\[images\]"'):
        image.decode(b"", "")


def jpeg(mode: str = "RGB", orientation: int = 0) -> bytes:
    random = np.random.default_rng(1)
    picture = Image.fromarray(random.integers(0, 256, (6, 9, 3), np.uint8)).resize((61, 43)).convert(mode)
    exif, out = Image.Exif(), BytesIO()
    if orientation:
        exif[0x0112] = orientation
    picture.save(out, "JPEG", quality=90, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("orientation", [0, 3, 6])
@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_opencv_and_pillow_decode_to_the_same_bits(mode, channels, orientation, monkeypatch):
    pytest.importorskip("cv2")
    fast = image.decode(jpeg(mode, orientation), "", channels)
    monkeypatch.setattr(image, "_opencv", lambda: None)
    assert np.array_equal(image.decode(jpeg(mode, orientation), "", channels), fast)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_opencv_and_pillow_decode_cmyk_nearly_alike(channels, monkeypatch):
    pytest.importorskip("cv2")
    fast = image.decode(jpeg("CMYK"), "", channels).astype(int)
    monkeypatch.setattr(image, "_opencv", lambda: None)
    assert np.abs(image.decode(jpeg("CMYK"), "", channels) - fast).max() <= 3


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:100], lambda data: data[:2]])
def test_a_jpeg_that_is_cut_off(opencv, damage, monkeypatch):
    if not opencv:
        monkeypatch.setattr(image, "_opencv", lambda: None)
    with pytest.raises(DataError, match=r"^here: the picture does not decode: "):
        image.decode(damage(jpeg()), "here")


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mirrored(opencv, dtype, channels, monkeypatch):
    if not opencv:
        monkeypatch.setattr(image, "_opencv", lambda: None)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(dtype)
    for part in (pixels, pixels[1:4, 2:6]):
        assert np.array_equal(image.mirrored(part), part[:, ::-1])
