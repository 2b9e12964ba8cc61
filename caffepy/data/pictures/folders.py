"""Folders of pictures, one for each class: what lies in them, and how it is parted for training and tests."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from caffepy.data.sources.lists import ListEntry
from caffepy.errors import DataError
from caffepy.files import near_names

SUFFIXES = {
    ".avif", ".bmp", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff",
    ".webp",
}  # fmt: skip
"""What the name of a picture ends with."""


def pictures_in(folder: str | PathLike[str]) -> Iterator[Path]:
    """All pictures below a folder, sorted; what begins with a dot is passed over."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(place, name)


def classes_in(root: str | PathLike[str]) -> tuple[list[str], list[ListEntry]]:
    """The names of the classes, sorted, and their pictures, by paths in `root`.

    Raises DataError where there is no folder of a class, or one without pictures.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError("there is no such folder", where=str(root), hint=near_names(root))
    names = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not names:
        raise DataError("there are no folders in it", where=str(root), hint="Make a folder of pictures for each class.")
    entries = []
    for label, name in enumerate(names):
        found = [ListEntry(path.relative_to(root).as_posix(), label, 0) for path in pictures_in(root / name)]
        if not found:
            raise DataError(
                "no pictures lie in it",
                where=str(root / name),
                hint=f"Each folder is a class, its files end with {', '.join(sorted(SUFFIXES))}.",
            )
        entries += found
    return names, entries


def parted(entries: Sequence[ListEntry], shares: Sequence[float], seed: int = 0) -> list[list[ListEntry]]:
    """Parts of the entries, mixed, each with its share of every class; the same for the same seed.

    A class that is too small for all shares is in the parts that it comes closest to, in the first of all.
    """
    draw = random.Random(seed)
    parts: list[list[ListEntry]] = [[] for _ in shares]
    by_class: dict[int, list[ListEntry]] = {}
    for entry in entries:
        by_class.setdefault(entry.label, []).append(entry)
    for label in sorted(by_class):
        mixed = by_class[label]
        draw.shuffle(mixed)
        for part, count in zip(parts, _counts(len(mixed), shares)):
            part += mixed[:count]
            mixed = mixed[count:]
    for part in parts:
        draw.shuffle(part)
    return parts


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the shares that add up to `total`; the largest remainders get one more."""
    counts = [int(total * share + 1e-9) for share in shares]
    rest = sorted(range(len(shares)), key=lambda i: (counts[i] - total * shares[i], i))
    for i in rest[: total - sum(counts)]:
        counts[i] += 1
    if total and not counts[0]:
        counts[counts.index(max(counts))] -= 1
        counts[0] = 1
    return counts
