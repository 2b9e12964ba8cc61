"""Pairs of digits from MNIST's files, as a database: two channels; label 1 where both are of one class, else 0.

    python models/mnist_siamese/pairs.py IMAGES LABELS DB

Each digit is in one pair, with another drawn by chance, every second time one of its class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.data.sources.idx import read_idx


def partners(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The other digit of each pair."""
    of_class = [np.flatnonzero(labels == c) for c in range(10)]
    same = [random.choice(of_class[c]) for c in labels]
    return np.where(np.arange(len(labels)) % 2, same, random.integers(len(labels), size=len(labels)))


def records(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    for i, j in enumerate(partners(labels, np.random.default_rng(1))):
        datum = from_image(np.stack([images[i], images[j]]), int(labels[i] == labels[j]))
        yield b"%08d" % i, datum.SerializeToString()


if __name__ == "__main__":
    write_lmdb(sys.argv[3], records(read_idx(sys.argv[1], 3), read_idx(sys.argv[2], 1)))
