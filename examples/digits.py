"""The handwritten digits that come with the repository, as arrays: what the examples learn from."""

from pathlib import Path

import numpy as np

from caffepy.data.sources.idx import read_idx

FOLDER = Path(__file__).parents[1] / "models" / "lenet" / "digits"


def load(part: str = "train", count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 1, 28, 28) in [0, 1] and labels (N,) of the "train" or "test" part."""
    images = read_idx(FOLDER / f"{part}-images-idx3-ubyte.gz", 3)[:count]
    labels = read_idx(FOLDER / f"{part}-labels-idx1-ubyte.gz", 1)[:count]
    return images[:, None].astype(np.float32) / 255, labels.astype(np.float32)
