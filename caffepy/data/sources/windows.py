"""Window files: pictures with boxes, and cutting a box with its surroundings out of a picture."""

from __future__ import annotations

import math
from os import PathLike
from typing import NamedTuple

import numpy as np

from caffepy.data.pictures.image import resize
from caffepy.errors import DataError
from caffepy.files import near_names, read_text


class ImageWindow(NamedTuple):
    """A box (both ends inclusive) in picture number `image` of the file."""

    image: int
    label: int
    overlap: float
    x1: int
    y1: int
    x2: int
    y2: int


class WindowFile(NamedTuple):
    """The paths of the pictures, all boxes, and the lines of the paths."""

    images: list[str]
    windows: list[ImageWindow]
    lines: list[int]


_PARTS = "A picture has a line each for # index, path, channels, height, width and count; then come its windows."


def read_windows(path: str | PathLike[str]) -> WindowFile:
    """Read `# index`, path, channels, height, width, count, then `label overlap x1 y1 x2 y2` lines, again and again.

    Raises DataError with the line number, also for a window that does not lie in its picture.
    """
    source = str(path)
    try:
        text = read_text(path)
    except OSError as error:
        raise DataError(f"cannot read the window file: {error.strerror}", where=source, hint=near_names(path)) from None
    lines = _Lines(source, text)
    file = WindowFile([], [], [])
    while words := lines.next():
        if words[0] != "#":
            raise lines.wrong('"# index"', words)
        words = lines.needed("a path")
        if len(words) != 1:
            raise lines.wrong("a path without blanks", words)
        file.images.append(words[0])
        file.lines.append(lines.number)
        _, height, width = [lines.integer(what) for what in ("channels", "height", "width")]
        for _ in range(lines.integer("the number of windows")):
            words = lines.needed("a window")
            try:
                label, overlap, *box = words
                window = ImageWindow(len(file.images) - 1, int(label), float(overlap), *map(int, box))
            except (ValueError, TypeError):
                raise lines.wrong('"label overlap x1 y1 x2 y2"', words) from None
            if not lies_in(window, height, width):
                raise outside(window, file, height, width, lines.place)
            file.windows.append(window)
    if not file.windows:
        raise DataError("the window file has no windows", where=source, hint=_PARTS)
    return file


def lies_in(window: ImageWindow, height: int, width: int) -> bool:
    return 0 <= window.x1 <= window.x2 < width and 0 <= window.y1 <= window.y2 < height


def outside(window: ImageWindow, file: WindowFile, height: int, width: int, where: str) -> DataError:
    """The error that a window does not lie in its picture."""
    return DataError(
        f"the window {tuple(window[3:])} does not lie in {file.images[window.image]}, {height}x{width}",
        where=where,
        hint="It is x1 y1 x2 y2, each counted from 0 and inside: correct it, or the picture's height and width.",
    )


class _Lines:
    """The lines of a window file but for the empty ones, split at blanks; `number` is that of the last one read."""

    def __init__(self, source: str, text: str):
        self.source, self.number = source, 0
        self._rest = ((number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip())

    @property
    def place(self) -> str:
        return f"{self.source}:{self.number}"

    def next(self) -> list[str]:
        """The next line's words; none at the end."""
        self.number, words = next(self._rest, (self.number, []))
        return words

    def needed(self, what: str) -> list[str]:
        words = self.next()
        if not words:
            raise DataError(f"the window file ends where {what} should follow", where=self.place, hint=_PARTS)
        return words

    def integer(self, what: str) -> int:
        words = self.needed(what)
        if len(words) != 1 or not words[0].isdigit():
            raise self.wrong(what, words)
        return int(words[0])

    def wrong(self, expected: str, words: list[str]) -> DataError:
        return DataError(f'expected {expected}, found "{" ".join(words)}"', where=self.place, hint=_PARTS)


class Cut(NamedTuple):
    """A window resized to (part of) the crop, and where in it the pixels belong."""

    pixels: np.ndarray
    top: int
    left: int


def cut(image: np.ndarray, window: ImageWindow, crop: int, pad: int, square: bool, mirror: bool) -> Cut:
    """Resize a window of a picture (C, H, W) to `crop` squared, `pad` pixels of which on each side are surroundings.

    Surroundings beyond the picture are missing: the result is then smaller, and belongs at an offset. Single
    precision and rounding half away from zero throughout, as Caffe has it.
    """
    x1, y1, x2, y2 = window[3:]
    if not pad and not square:
        pixels = resize(image[:, y1 : y2 + 1, x1 : x2 + 1], crop, crop)
        return Cut(pixels[:, :, ::-1] if mirror else pixels, 0, 0)
    _, height, width = image.shape
    grow = np.float32(crop) / np.float32(crop - 2 * pad)
    half_h, half_w = np.float32((y2 - y1 + 1) / 2), np.float32((x2 - x1 + 1) / 2)
    middle_y, middle_x = np.float32(y1) + half_h, np.float32(x1) + half_w
    if square:
        half_h = half_w = max(half_h, half_w)
    rows = _span(middle_y, half_h * grow, height, crop)
    columns = _span(middle_x, half_w * grow, width, crop)
    top, left = rows.before, columns.after if mirror else columns.before
    pixels = image[:, rows.start : rows.stop, columns.start : columns.stop]
    height, width = min(rows.size, crop - top), min(columns.size, crop - left)
    if height <= 0 or width <= 0:  # surroundings so wide that nothing of the picture is left
        return Cut(pixels[:, :0, :0], 0, 0)
    pixels = resize(pixels, height, width)
    return Cut(pixels[:, :, ::-1] if mirror else pixels, top, left)


class _Span(NamedTuple):
    """The part of a side that lies in the picture; how long it is in the crop, and what is missing around it there."""

    start: int
    stop: int
    size: int
    before: int
    after: int


def _span(middle: np.float32, half: np.float32, length: int, crop: int) -> _Span:
    first, last = _round(middle - half), _round(middle + half)
    scale = np.float32(crop) / np.float32(last - first + 1)
    before, after = max(0, -first), max(0, last - length + 1)
    start, stop = first + before, last - after + 1
    return _Span(
        start,
        stop,
        _round((stop - start) * scale),
        _round(np.float32(before) * scale),
        _round(np.float32(after) * scale),
    )


def _round(x: np.float32) -> int:
    return int(math.copysign(math.floor(abs(float(x)) + 0.5), x))
