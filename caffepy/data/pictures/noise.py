"""SSD's `noise_param`: pictures spoilt in the ways that it switches on, by OpenCV, as there."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from caffepy.data.pictures.boxes import Array
from caffepy.errors import ConfigError, MissingExtraError
from caffepy.proto.caffe_pb2 import NoiseParameter


def check(p: NoiseParameter) -> None:
    """Raises ConfigError for what cannot be done, MissingExtraError where OpenCV is not installed."""
    _opencv()
    if p.convert_to_lab:
        raise ConfigError("noise_param.convert_to_lab makes no picture of bytes; SSD's own program stops there, too")
    if not 0 <= p.saltpepper_param.fraction <= 1:
        raise ConfigError(f"saltpepper_param.fraction must be in [0, 1], got {p.saltpepper_param.fraction:g}")
    if p.saltpepper and not p.saltpepper_param.value:
        raise ConfigError("saltpepper_param.value is not set", hint="Give one value for all channels, or one for each.")


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("opencv-python-headless", "images", "noise_param") from None
    return cv2


def spoilt(picture: Array, p: NoiseParameter, random: np.random.Generator) -> Array:
    """A uint8 picture (C, H, W) with every kind of noise that is on, in SSD's order."""
    cv2 = _opencv()
    x = np.ascontiguousarray(picture.transpose(1, 2, 0))
    for kind in ("decolorize", "gauss_blur", "hist_eq", "clahe", "jpeg", "erode", "posterize", "inverse"):
        if getattr(p, kind) and (kind != "jpeg" or p.jpeg > 0):
            x = KINDS[kind](cv2, x, p).reshape(*x.shape)
    if p.saltpepper:
        x = salt_and_pepper(x, p, random)
    if p.convert_to_hsv:
        x = cv2.cvtColor(x, cv2.COLOR_BGR2HSV)
    return x.transpose(2, 0, 1)


def decolorize(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) if x.shape[2] == 3 else x


def gauss_blur(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return cv2.GaussianBlur(x, (7, 7), 1.5)


def hist_eq(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return _of_brightness(cv2, x, cv2.equalizeHist)


def clahe(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return _of_brightness(cv2, x, cv2.createCLAHE(clipLimit=4).apply)


def _of_brightness(cv2: ModuleType, x: Array, change) -> Array:
    """`change` the brightness, Y of Y, Cr, Cb."""
    if x.shape[2] != 3:
        return change(x)
    x = cv2.cvtColor(x, cv2.COLOR_BGR2YCrCb)
    x[..., 0] = change(np.ascontiguousarray(x[..., 0]))
    return cv2.cvtColor(x, cv2.COLOR_YCrCb2BGR)


def jpeg(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    _, data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(p.jpeg)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR if x.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)


def erode(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return cv2.erode(x, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3), (1, 1)))


def posterize(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return x // 64 * 64 + 32


def inverse(cv2: ModuleType, x: Array, p: NoiseParameter) -> Array:
    return 255 - x


KINDS = {f.__name__: f for f in (decolorize, gauss_blur, hist_eq, clahe, jpeg, erode, posterize, inverse)}


def salt_and_pepper(x: Array, p: NoiseParameter, random: np.random.Generator) -> Array:
    """Random pixels of (H, W, C) set to a value; one that is drawn twice counts twice."""
    height, width, channels = x.shape
    if len(p.saltpepper_param.value) not in (1, channels):
        raise ConfigError(
            f"{len(p.saltpepper_param.value)} saltpepper_param.value for {channels} channels; give one, or one for each"
        )
    count = int(p.saltpepper_param.fraction * width * height)
    x = x.copy()
    value = np.array(p.saltpepper_param.value).astype(np.uint8)
    x[random.integers(height, size=count), random.integers(width, size=count)] = value
    return x
