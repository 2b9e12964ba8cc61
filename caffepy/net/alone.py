"""A layer without a net: for tests, and for a look at what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.engine import Engine, get_engine
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, create
from caffepy.proto import caffe_pb2, text


class Alone:
    """A layer with its blobs, called like a function of arrays.

        relu = Alone('type: "ReLU"', x)
        (y,) = relu.forward()
        (dx,) = relu.backward(dy)

    `bottoms` are arrays, `tops` is how many tops there are where the definition names none. With `in_place` the first
    top is the first bottom.
    """

    def __init__(
        self,
        layer: str | caffe_pb2.LayerParameter,
        *bottoms: Any,
        engine: str | Engine = "numpy",
        phase: int = caffe_pb2.TRAIN,
        tops: int = 1,
        in_place: bool = False,
    ):
        self.param = text.parse(layer, caffe_pb2.LayerParameter()) if isinstance(layer, str) else layer
        self.engine = get_engine(engine) if isinstance(engine, str) else engine
        self.bottom = [self.blob(b) for b in bottoms]
        self.top = [Blob((), self.engine) for _ in range(len(self.param.top) or tops)]
        if in_place:
            self.top[0] = self.bottom[0]
        self.layer: Layer = create(self.param, phase, self.engine)
        self.layer.set_up(self.bottom, self.top)

    def blob(self, values: Any) -> Blob:
        values = np.asarray(values, np.float32)
        blob = Blob(values.shape, self.engine)
        blob.fill(values)
        return blob

    def host(self, array: Any) -> np.ndarray:
        return np.array(self.engine.to_host(array))

    def forward(self) -> list[np.ndarray]:
        """The tops, of the bottoms as they are now."""
        with self.engine.computing():
            self.layer.reshape(self.bottom, self.top)
            self.layer.forward(self.bottom, self.top)
        return [self.host(t.data) for t in self.top]

    def backward(self, *top_diffs: Any, propagate_down: list[bool] | None = None) -> list[np.ndarray]:
        """The bottoms' gradients for those of the tops; gradients of parameters are added to."""
        for top, diff in zip(self.top, top_diffs):
            top.diff[...] = self.engine.asarray(diff)
        wanted = propagate_down or [True] * len(self.bottom)
        with self.engine.computing():
            self.layer.backward(self.top, wanted, self.bottom)
        return [self.host(b.diff) for b in self.bottom]
