"""Pictures side by side in one, with captions: filters, feature maps, records."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np

from caffepy.data.pictures.image import pillow

_LINE = 12
"""Pixels of a line of a caption."""


def tiles(values: np.ndarray, least: int = 1, gap: int = 1) -> np.ndarray:
    """Maps (n, c, h, w) as one picture (3, H, W): each from its least value, black, to its largest, white.

    c is 3, colours in blue, green, red, or 1. Small maps are enlarged to about `least` pixels.
    """
    h, w = values.shape[2:]
    low, high = (edge(values, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    shown = ((values - low) * (255 / np.maximum(high - low, 1e-12))).astype(np.uint8)
    factor = max(1, ceil(least / max(h, w)))
    shown = np.repeat(np.repeat(shown, factor, axis=2), factor, axis=3)
    return joined([np.broadcast_to(tile, (3, *tile.shape[1:])) for tile in shown], gap)


def joined(pictures: Sequence[np.ndarray], gap: int = 1) -> np.ndarray:
    """Pictures (3, h, w) in rows, as near to a square as can be."""
    h, w = (max(p.shape[axis] for p in pictures) for axis in (1, 2))
    columns = max(1, min(len(pictures), round(sqrt(len(pictures) * h / w))))
    rows = ceil(len(pictures) / columns)
    out = np.full((3, rows * (h + gap) - gap, columns * (w + gap) - gap), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        out[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return out


def captioned(pictures: Sequence[np.ndarray], captions: Sequence[str], least: int = 96) -> np.ndarray:
    """Pictures (c, h, w) of any values with a caption of one or more lines below each."""
    from PIL import ImageDraw

    lines = max(caption.count("\n") + 1 for caption in captions)
    found = []
    for picture, caption in zip(pictures, captions):
        tile = tiles(picture[None] if picture.shape[0] in (1, 3) else picture[None, :1], least)
        height, width = tile.shape[1:]
        strip = pillow().new("L", (max(width, least), lines * _LINE + 2), 255)
        ImageDraw.Draw(strip).multiline_text((2, 0), caption, fill=0, spacing=1)
        out = np.full((3, height + strip.height, strip.width), 255, np.uint8)
        out[:, :height, :width] = tile
        out[:, height:] = np.asarray(strip)
        found.append(out)
    return joined(found, 4)
