"""Pictures whose pixels are labels: read as they are stored, resized without mixing."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from caffepy.data.pictures.image import REPLACE, check_size, formats, pillow, read_file
from caffepy.errors import DataError


def read_labels(path: str, where: str) -> np.ndarray:
    """Labels (H, W), uint8, of a gray picture, or the indices of one with a palette."""
    raw, place = read_file(path, where), f"{where}: {path}"
    try:
        with pillow().open(BytesIO(raw), formats=formats()) as picture:
            check_size(picture.size, place, REPLACE)
            mode, pixels = picture.mode, np.array(picture)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise whatever their parsers raise
        raise DataError(f"the picture does not decode: {error}", where=place) from None
    if mode not in ("1", "L", "P"):
        raise DataError(
            f"labels are a gray picture of bytes, or one with a palette; this one is of the kind {mode}", where=place
        )
    return pixels.astype(np.uint8)


def resize_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each new pixel takes the label of the old one that it begins in."""
    rows, columns = (np.arange(n) * old // n for n, old in zip((height, width), labels.shape))
    return labels[rows[:, None], columns]
