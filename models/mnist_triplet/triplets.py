"""Triplets of digits from MNIST's files, as a database of three channels: a digit, one of its class, one of another.

python models/mnist_triplet/triplets.py IMAGES LABELS DB
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.data.sources.idx import read_idx


def records(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    random = np.random.default_rng(1)
    of_class = [np.flatnonzero(labels == c) for c in range(10)]
    others = [np.flatnonzero(labels != c) for c in range(10)]
    for i, label in enumerate(labels):
        three = i, random.choice(of_class[label]), random.choice(others[label])
        yield b"%08d" % i, from_image(images[list(three)], int(label)).SerializeToString()


if __name__ == "__main__":
    write_lmdb(sys.argv[3], records(read_idx(sys.argv[1], 3), read_idx(sys.argv[2], 1)))
