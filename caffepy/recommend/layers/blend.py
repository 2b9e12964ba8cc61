"""Blend: several predictions as one, weighted by least squares."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TRAIN

_REG = 1e-3
"""Of the mean square, so that predictions which are all the same have weights at all."""


@register("Blend")
class Blend(Layer):
    """y = w0 + sum of w[i] x[i]; in TRAIN the last bottom is the truth, and w what fits it best on the batch.

    The predictions to fit must be of ratings that their makers have not learned from: `ratings_param.hold_out` and
    TableData's `held_out` keep them apart. Parameter: w (n + 1,).
    """

    num_bottom = (1, None)
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        n = len(bottom) - (self.phase == TRAIN)
        self.add_blob((n + 1,)).data[...] = self.engine.asarray(np.array([0.0, *[1 / n] * n], np.float32))
        if not self.param.param:
            self.param.param.add()
        for spec in self.param.param:
            spec.lr_mult = spec.decay_mult = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, other in enumerate(bottom[1:], 1):
            if other.count != bottom[0].count:
                raise ShapeError(
                    f"{self.bottom_name(i)} has {other.count} values, {self.bottom_name(0)} {bottom[0].count}"
                )
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        columns = [blob.host().reshape(-1).astype(np.float64) for blob in bottom]
        n = len(columns) - (self.phase == TRAIN)
        x = np.stack([np.ones_like(columns[0]), *columns[:n]], axis=1)
        if self.phase == TRAIN:
            self._fit(x, columns[n])
        y = x @ self.engine.to_host(self.blobs[0].data).astype(np.float64)
        top[0].data[...] = self.engine.asarray(y.astype(np.float32).reshape(top[0].shape))

    def _fit(self, x: np.ndarray, truth: np.ndarray) -> None:
        square, right = x.T @ x / len(x), x.T @ truth / len(x)
        weights = np.linalg.solve(square + _REG * np.diag([0, *[1.0] * (len(square) - 1)]), right)
        self.blobs[0].data[...] = self.engine.asarray(weights.astype(np.float32))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Its makers learn by themselves."""
