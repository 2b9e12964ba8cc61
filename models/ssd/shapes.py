"""Pictures of coloured shapes, to train a detector and a segmenter on.

    python models/ssd/shapes.py models/ssd/shapes

writes train_lmdb and test_lmdb (AnnotatedDatum records, PNG) with labelmap.prototxt, and the same pictures as files
with masks of their pixels' classes, listed in train.txt and test.txt. Needs caffepy[images].
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffepy.data.pictures.image import encode
from caffepy.data.sources.databases import write_lmdb
from caffepy.proto.caffe_pb2 import AnnotatedDatum

SIZE = 96
NAMES = ("background", "circle", "square", "triangle")
COUNTS = {"train": 2000, "test": 400}


class Scene(NamedTuple):
    """A picture (H, W, 3), BGR; the class of each pixel (H, W); class, xmin, ymin, xmax, ymax of each shape."""

    picture: np.ndarray
    mask: np.ndarray
    boxes: list[tuple[int, float, float, float, float]]


def inside(kind: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which of the points are in a shape that fills -1 .. 1 both ways."""
    if kind == 1:
        return x * x + y * y <= 1
    if kind == 2:
        return np.maximum(np.abs(x), np.abs(y)) <= 1
    return (np.abs(x) <= (y + 1) / 2) & (np.abs(y) <= 1)


def background(random: np.random.Generator) -> np.ndarray:
    """A colour that changes from corner to corner, and noise."""
    corners = random.uniform(0, 255, 3) + random.uniform(-60, 60, (2, 2, 3))
    t = np.linspace(0, 1, SIZE)
    ends = np.stack([1 - t, t])
    return np.einsum("ay,bx,abc->yxc", ends, ends, corners) + random.normal(0, 8, (SIZE, SIZE, 3))


def scene(random: np.random.Generator) -> Scene:
    """One to four shapes that do not hide each other, each in a colour unlike what is behind it."""
    picture, mask = background(random), np.zeros((SIZE, SIZE), np.uint8)
    boxes: list[tuple[int, float, float, float, float]] = []
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    for _ in range(random.integers(1, 5)):
        kind, half = int(random.integers(1, 4)), random.uniform(7, 20)
        cx, cy = random.uniform(half, SIZE - half, 2)
        box = (cx - half, cy - half, cx + half, cy + half)
        if any(min(box[2], b[3]) > max(box[0], b[1]) and min(box[3], b[4]) > max(box[1], b[2]) for b in boxes):
            continue
        shape = inside(kind, (x - cx) / half, (y - cy) / half)
        behind = picture[shape].mean(axis=0)
        colour = random.uniform(0, 255, 3)
        while np.abs(colour - behind).max() < 80:
            colour = random.uniform(0, 255, 3)
        picture[shape] = colour + random.normal(0, 8, (shape.sum(), 3))
        mask[shape] = kind
        boxes.append((kind, *box))
    return Scene(np.clip(picture, 0, 255).astype(np.uint8), mask, boxes)


def png(picture: np.ndarray) -> bytes:
    return encode(picture.transpose(2, 0, 1), "png")


def record(made: Scene) -> AnnotatedDatum:
    """As SSD's tools store it: boxes in shares of the picture, a group a class."""
    out = AnnotatedDatum(type=AnnotatedDatum.BBOX)
    out.datum.encoded, out.datum.data = True, png(made.picture)
    for kind in sorted({box[0] for box in made.boxes}):
        group = out.annotation_group.add(group_label=kind)
        for number, (_, *corners) in enumerate(box for box in made.boxes if box[0] == kind):
            box = group.annotation.add(instance_id=number).bbox
            box.xmin, box.ymin, box.xmax, box.ymax = (float(corner) / SIZE for corner in corners)
    return out


def scenes(part: str) -> Iterator[Scene]:
    random = np.random.default_rng(sorted(COUNTS).index(part))
    return (scene(random) for _ in range(COUNTS[part]))


def write(folder: Path) -> None:
    for part in COUNTS:
        (folder / part).mkdir(parents=True, exist_ok=True)
        records, lines = [], []
        for number, made in enumerate(scenes(part)):
            records.append((f"{number:08}".encode(), record(made).SerializeToString()))
            picture, mask = (folder / part / f"{number:05}{end}.png" for end in ("", "_mask"))
            picture.write_bytes(png(made.picture))
            mask.write_bytes(png(made.mask[..., None]))
            lines.append(f"{picture.as_posix()} {mask.as_posix()}\n")
        (folder / f"{part}.txt").write_text("".join(lines))
        write_lmdb(folder / f"{part}_lmdb", records)
    items = [f'item {{ name: "{name}" label: {i} display_name: "{name}" }}\n' for i, name in enumerate(NAMES)]
    (folder / "labelmap.prototxt").write_text("".join(items))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
