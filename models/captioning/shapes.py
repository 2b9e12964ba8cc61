"""python models/captioning/shapes.py FOLDER: pictures of one or two shapes and what is to be seen, for TRAIN and TEST.

`train.h5`, `test.h5` and lists of them: `image` (n, 3, 32, 32), bytes; `words` and `next` (n, 10), the caption behind a
line break and in front of one, -1 behind its end; `begun` (n, 10) is 0 in
front of the first word and behind the last. `vocabulary.json` has the words.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np

from caffepy.data.texts import vocabulary as vocabularies

SIDE, STEPS = 32, 10
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (230, 210, 50)}
SHAPES = ("circle", "square", "triangle")
CAPTIONS = [
    *(f"a {size} {colour} {shape}" for size in ("big", "small") for colour in COLOURS for shape in SHAPES),
    *(f"a {a} {b} {place} a {c} {d}"
      for place in ("above", "left of") for a in COLOURS for b in SHAPES for c in COLOURS for d in SHAPES),
]  # fmt: skip
"""All that may be said; a quarter of those of two shapes is in the test alone."""
KNOWN = vocabularies.learn("WORD", "\n".join(CAPTIONS))


def inside(shape: str, x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Which points, seen from the centre, belong to a shape of radius r."""
    if shape == "circle":
        return x * x + y * y <= r * r
    if shape == "square":
        return (abs(x) <= 0.85 * r) & (abs(y) <= 0.85 * r)
    return (y <= 0.8 * r) & (y >= 2 * abs(x) - r)


def drawn(caption: str, random: np.random.Generator) -> np.ndarray:
    """The picture (3, SIDE, SIDE) of a caption, on a dark ground with noise."""
    picture = random.integers(0, 50, (3, SIDE, SIDE)).astype(np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    words = caption.split()
    if len(words) == 4:
        things = [(words[2], words[3], random.uniform(11, 21, 2), 10.5 if words[1] == "big" else 5)]
    else:
        near, far = random.uniform(7, 10), random.uniform(22, 25)
        ahead, behind = random.uniform(8, 24, 2)
        ends = (words[1], words[2]), (words[-2], words[-1])
        places = [(ahead, near), (behind, far)] if "above" in words else [(near, ahead), (far, behind)]
        things = [(*what, where, random.uniform(5.5, 7)) for what, where in zip(ends, places)]
    for colour, shape, (cx, cy), r in things:
        picture[:, inside(shape, x - cx, y - cy, r)] = np.array(COLOURS[colour])[:, None]
    return picture


def write(folder: Path, part: str, captions: list[str], count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    chosen = [captions[i] for i in random.integers(len(captions), size=count)]
    lengths = np.array([len(KNOWN.encode(caption)) for caption in chosen])[:, None]
    words, following, steps = np.zeros((count, STEPS)), np.full((count, STEPS), -1.0), np.arange(STEPS)
    for row, after, caption in zip(words, following, chosen):
        tokens = KNOWN.encode(f"\n{caption}\n")
        row[: len(tokens) - 1], after[: len(tokens) - 1] = tokens[:-1], tokens[1:]
    with h5py.File(folder / f"{part}.h5", "w") as file:
        file["image"] = np.stack([drawn(caption, random) for caption in chosen])
        file["words"], file["next"] = words.astype(np.int16), following.astype(np.int16)
        file["begun"] = ((steps > 0) & (steps <= lengths)).astype(np.uint8)
    (folder / f"{part}.txt").write_text(f"{folder / f'{part}.h5'}\n")


def main(folder: Path, count: int = 8000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = [caption for i, caption in enumerate(CAPTIONS) if i < 24 or i % 4]
    write(folder, "train", kept, count, 1)
    write(folder, "test", CAPTIONS, count // 8, 2)
    vocabularies.write(str(folder / "vocabulary.json"), KNOWN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
