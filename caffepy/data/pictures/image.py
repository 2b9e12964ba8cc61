"""Pictures in and out of files: decoding and encoding by Pillow, resizing to the bit as Caffe's tools do.

JPEG is decoded by OpenCV where that is installed, as Caffe does: to the same bits, but for CMYK, whose colours the two
convert differently, in two thirds of the time (benchmarks/README.md).
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np

from caffepy import files, limits
from caffepy.errors import DataError, MissingExtraError

JPEG_QUALITY = 95


@cache
def pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("Pillow", "images", "Reading and writing pictures") from None
    return Image


@cache
def _opencv() -> ModuleType | None:
    try:
        import cv2
    except ImportError:
        return None
    return cv2


REPLACE = "Replace the file, or take it off the list."


def decode(data: bytes, where: str, channels: int = 0, hint: str = REPLACE) -> np.ndarray:
    """The picture as uint8 (C, H, W), channels B, G, R.

    `channels` 3 or 1 forces colour or gray; 0 keeps what is stored: gray 1, colour and palette 3, with alpha 4
    (B, G, R, A). Gray of a JPEG is its Y plane. Raises DataError with `where` and `hint`.
    """
    if size := jpeg_size(data):
        check_size(size, where, hint)
        if (pixels := _fast_jpeg(data, channels)) is not None:
            return pixels.transpose(2, 0, 1)
    opener = pillow().open
    try:
        with opener(BytesIO(data), formats=formats()) as picture:
            check_size(picture.size, where, hint)
            if channels == 1 and picture.format == "JPEG":
                picture.draft("L", picture.size)
            if channels and picture.format == "JPEG":
                picture = _upright(picture)
            pixels = _gray(picture) if channels == 1 else _color(picture, keep=channels == 0)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise whatever their parsers raise
        text = "no known format" if "cannot identify" in str(error) else str(error) or type(error).__name__
        raise DataError(f"the picture does not decode: {text}", where=where, hint=hint) from None
    return pixels.transpose(2, 0, 1)


_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP")


@cache
def formats() -> list[str]:
    """What is read of what Pillow can: pictures made of pixels. It would start Ghostscript for PostScript."""
    library = pillow()
    library.init()
    return [name for name in _FORMATS if name in library.OPEN]


def check_size(size: tuple[int, int], where: str, hint: str) -> None:
    """Before it is decoded: a file of a few megabytes may hold a picture of many gigabytes."""
    width, height = size
    if width * height > limits.PIXELS:
        raise DataError(
            f"the picture has {width}x{height} pixels, more than {limits.PIXELS}: it is not decoded",
            where=where,
            hint=hint,
        )
    limits.check(_DECODING * width * height, f"decoding {width}x{height} pixels", where=where)


_DECODING = 8
"""Bytes a pixel while a picture is decoded: the library's and ours."""


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the header of a JPEG gives, or None if this is none, or a damaged one."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if kind in _END_OF_HEADER:
            return None
        at += 1 if kind == 0xFF else 2 if kind in _WITHOUT_LENGTH else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_HEADER = {0xD9, 0xDA}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}


def _fast_jpeg(data: bytes, channels: int) -> np.ndarray | None:
    """(H, W, C) of a JPEG, or None if this is for Pillow: to decode, or to say what is wrong with it."""
    if b"\xff\xd9" not in data[-64:]:  # OpenCV would not say that the end is missing
        return None
    library = _opencv()
    if library is None:
        return None
    kind = {0: library.IMREAD_UNCHANGED, 1: library.IMREAD_GRAYSCALE, 3: library.IMREAD_COLOR}[channels]
    try:
        pixels = library.imdecode(np.frombuffer(data, np.uint8), kind)
    except library.error:
        return None
    return pixels[:, :, None] if pixels is not None and pixels.ndim == 2 else pixels


def mirrored(pixels: np.ndarray) -> np.ndarray:
    """A copy of (H, W, C) with left and right exchanged."""
    library = _opencv()
    if library is not None and pixels.dtype in (np.uint8, np.float32) and pixels.shape[2] in (1, 3):
        return library.flip(pixels, 1).reshape(pixels.shape)
    # Whole pixels are moved, not single channels.
    return pixels.view(f"V{pixels.shape[2] * pixels.itemsize}")[:, ::-1].copy().view(pixels.dtype)


def read(path: str, channels: int = 3, where: str = "") -> np.ndarray:
    """Decode the file `path`; `where` says who asks for it."""
    return decode(read_file(path, where), f"{where}: {path}" if where else path, channels)


def read_file(path: str, where: str = "") -> bytes:
    try:
        return files.read_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot read the picture: {reason}",
            where=f"{where}: {path}" if where else path,
            hint=files.near_names(path),
        ) from None


def encode(image: np.ndarray, kind: str) -> bytes:
    """A uint8 picture (1 or 3 or 4, H, W) as the bytes of a file of type `kind` (png, jpg, bmp, ...)."""
    name = encoder(kind)
    pixels = image.transpose(1, 2, 0)
    pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    out = BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": "4:2:0"} if name == "JPEG" else {}
    pillow().fromarray(np.ascontiguousarray(pixels)).save(out, name, **options)
    return out.getvalue()


def encoder(kind: str) -> str:
    """The library's name for the file type `kind`; raises DataError if it cannot write that."""
    library = pillow()
    library.init()
    name = library.registered_extensions().get("." + kind.lower().lstrip("."))
    if name is None or name not in library.SAVE:
        raise DataError(f'cannot encode pictures as "{kind}"', hint="Use png or jpg.")
    return name


def _upright(picture: Any) -> Any:
    """Turned as the camera's EXIF note says; pictures kept as stored are not."""
    if "exif" not in picture.info:
        return picture
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _color(picture: Any, keep: bool) -> np.ndarray:
    """(H, W, C) with C 3; with `keep` also 1 for gray and 4 for alpha."""
    mode = picture.mode
    if mode.startswith("I"):
        gray = _eight_bits(picture)
    elif mode in ("1", "L"):
        gray = np.asarray(picture.convert("L"))
    elif keep and (mode in ("LA", "RGBA", "PA") or "transparency" in picture.info):
        return np.asarray(picture.convert("RGBA"))[:, :, [2, 1, 0, 3]]
    else:
        if mode != "RGB":
            picture = picture.convert("RGB")
        # Swapped by the library: a reversed view would slow down everything after it.
        return np.frombuffer(picture.tobytes("raw", "BGR"), np.uint8).reshape(picture.height, picture.width, 3)
    gray = gray[:, :, None]
    return gray if keep else np.repeat(gray, 3, axis=2)


def _gray(picture: Any) -> np.ndarray:
    """(H, W, 1), weights in 15-bit integers as Caffe's decoder has them."""
    if picture.mode.startswith("I"):
        return _eight_bits(picture)[:, :, None]
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(picture.convert("L"))[:, :, None]
    rgb = np.asarray(picture.convert("RGB")).astype(np.int32)
    return ((rgb @ np.array([9797, 19234, 3737], np.int32)) >> 15).astype(np.uint8)[:, :, None]


def _eight_bits(picture: Any) -> np.ndarray:
    """The upper byte of 16-bit gray."""
    return (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int, mode: str = "LINEAR") -> np.ndarray:
    """A uint8 picture (C, H, W) scaled bilinearly in the fixed-point arithmetic of Caffe's image library.

    Weights have 11 bits; exact halving of both sides is the mean of four pixels. The other modes, "AREA", "NEAREST",
    "CUBIC" and "LANCZOS4", are OpenCV's where that is installed, else the nearest that Pillow has.
    """
    channels, old_height, old_width = image.shape
    if (height, width) == (old_height, old_width):
        return image
    if mode != "LINEAR":
        return _resize_by_library(image, height, width, mode)
    if (2 * height, 2 * width) == (old_height, old_width):
        quads = image.astype(np.uint16)
        rows = quads[:, 0::2] + quads[:, 1::2]
        return ((rows[:, :, 0::2] + rows[:, :, 1::2] + 2) >> 2).astype(np.uint8)
    limits.check(8 * channels * max(height, old_height) * width, f"resizing a picture to {height}x{width}")
    left, (near, far) = _taps(old_width, width)
    outside = (left < 0) | (left >= old_width - 1)
    near[outside], far[outside] = 2048, 0
    left = left.clip(0, old_width - 1)
    source = image.astype(np.int32)
    across = source[:, :, left] * near + source[:, :, (left + 1).clip(max=old_width - 1)] * far
    across >>= 4
    top, (above, below) = _taps(old_height, height)
    upper = across[:, top.clip(0, old_height - 1)] * above[:, None] >> 16
    lower = across[:, (top + 1).clip(0, old_height - 1)] * below[:, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


_FILTERS = {"AREA": "BOX", "NEAREST": "NEAREST", "CUBIC": "BICUBIC", "LANCZOS4": "LANCZOS"}


def _resize_by_library(image: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    library = _opencv()
    if library is not None:
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        scaled = library.resize(pixels, (width, height), interpolation=getattr(library, f"INTER_{mode}"))
        return scaled.reshape(height, width, -1).transpose(2, 0, 1)
    filter = getattr(pillow().Resampling, _FILTERS[mode])
    planes = [pillow().fromarray(np.ascontiguousarray(plane)).resize((width, height), filter) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def _taps(old: int, new: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Which pixel each new one begins at, and the weights of that and the next."""
    at = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(at)
    t = at - first
    weights = np.rint((1 - t) * 2048).astype(np.int32), np.rint(t * 2048).astype(np.int32)
    return first.astype(np.int64), weights
