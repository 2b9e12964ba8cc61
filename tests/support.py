"""What the tests share: engines, golden files, layers built from a line of prototxt, numerical gradients."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from caffepy.engine import get_engine
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, create
from caffepy.proto import caffe_pb2, text

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"
"""Complete recordings and data sets, present on the developers' machines alone."""

ENGINES = [name for name in ("numpy", "torch") if importlib.util.find_spec(name)]
if chosen := os.environ.get("CAFFEPY_TEST_ENGINES"):
    ENGINES = chosen.split(",")


class Built:
    """A layer with its blobs, called like a function of arrays."""

    def __init__(self, layer_text: str, *bottoms, engine: str = "numpy", phase: int = caffe_pb2.TRAIN, tops: int = 1):
        self.param = text.parse(layer_text, caffe_pb2.LayerParameter())
        self.engine = get_engine(engine)
        self.bottom = [self.blob(b) for b in bottoms]
        self.top = [Blob((), self.engine) for _ in range(len(self.param.top) or tops)]
        self.layer: Layer = create(self.param, phase, self.engine)
        self.layer.set_up(self.bottom, self.top)

    def blob(self, values) -> Blob:
        values = np.asarray(values, np.float32)
        blob = Blob(values.shape, self.engine)
        blob.data[...] = self.engine.asarray(values)
        return blob

    def host(self, array) -> np.ndarray:
        return np.array(self.engine.to_host(array))

    def forward(self) -> list[np.ndarray]:
        self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        return [self.host(t.data) for t in self.top]

    def backward(self, *top_diffs, propagate_down=None) -> list[np.ndarray]:
        """Bottom gradients for the given top gradients; parameter gradients are added to."""
        for top, diff in zip(self.top, top_diffs):
            top.diff[...] = self.engine.asarray(diff)
        wanted = propagate_down or [True] * len(self.bottom)
        self.layer.backward(self.top, wanted, self.bottom)
        return [self.host(b.diff) for b in self.bottom]


def assert_close(ours, reference, tolerance: float = 1e-5, floor: float = 1e-3) -> None:
    """Equal shapes, and no difference above `tolerance` of the reference's largest value (at least `floor`)."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    if reference.size == 0:
        return
    both_nan = np.isnan(ours) & np.isnan(reference)
    difference = np.abs(np.where(both_nan | (ours == reference), 0, ours - reference))
    finite = np.abs(reference[np.isfinite(reference)])
    limit = tolerance * max(finite.max() if finite.size else 0, floor)
    worst = np.unravel_index(np.argmax(difference), difference.shape)
    assert difference[worst] <= limit, f"at {worst}: {ours[worst]} instead of {reference[worst]}, limit {limit:g}"


def numerical_gradient(value, array: np.ndarray, step: float = 1e-2) -> np.ndarray:
    """Central differences of the scalar function `value()` with respect to the entries of `array`, in place."""
    gradient = np.zeros(array.shape)
    for at in np.ndindex(*array.shape):
        kept = array[at]
        array[at] = kept + step
        above = value()
        array[at] = kept - step
        below = value()
        array[at] = kept
        gradient[at] = (above - below) / (2 * step)
    return gradient
