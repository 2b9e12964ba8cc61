"""InnerProduct: y = x W^T + b."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("InnerProduct")
class InnerProduct(Layer):
    """y = x W^T + b. x (M, K): the axes from `axis` on are flattened to K, those before are kept and count as M.

    W (num_output, K), with `transpose` (K, num_output); b (num_output,) unless `bias_term: false`.
    """

    in_place = "refused"  # a matrix product reads all of an item for each output
    colour = "#CC33FF"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.inner_product_param
        if p.num_output <= 0:
            raise ConfigError("inner_product_param.num_output must be at least 1")
        self.axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        self.depth = prod(bottom[0].shape[self.axis :])
        shape = (self.depth, p.num_output) if p.transpose else (p.num_output, self.depth)
        self.add_blob(shape, p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)
        self.takes_affine = self.axis == 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if prod(shape[self.axis :]) != self.depth:
            raise ShapeError(
                f"bottom {self.bottom_name(0)} {shape} has {prod(shape[self.axis :])} values from axis {self.axis} on, "
                f"the weights were made for {self.depth}"
            )
        top[0].reshape((*shape[: self.axis], self.param.inner_product_param.num_output))

    def divisible(self) -> bool:
        return self.axis > 0

    def with_affine(self, factor: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights, *bias = (blob.host().astype(np.float64) for blob in self.blobs)
        transpose = self.param.inner_product_param.transpose
        return weights * (factor if transpose else factor[:, None]), (bias[0] * factor if bias else 0.0) + offset

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        return 2 * top[0].count * self.depth

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        # Flattening is one copy where x is stored channels-last; it is small beside the weights.
        x = self._rows(bottom[0].data)
        with self.written_as(top[0].data, (x.shape[0], self._outputs)) as y:
            self.engine.gemm(x, self._weights(), y)
            if len(self.blobs) > 1:
                y += self.blobs[1].data

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        x = self._rows(bottom[0].data)
        dy = top[0].diff.reshape((x.shape[0], self._outputs))
        if self.param_propagate_down[0]:
            left, right = (x.T, dy) if self.param.inner_product_param.transpose else (dy.T, x)
            self.engine.gemm(left, right, self.blobs[0].diff, accumulate=True)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.engine.add_sum_over_channels(dy, self.blobs[1].diff)
        if propagate_down[0]:
            with self.written_as(bottom[0].diff, x.shape) as dx:
                self.engine.gemm(dy, self._weights().T, dx)

    @property
    def _outputs(self) -> int:
        return self.param.inner_product_param.num_output

    def _rows(self, array: Array) -> Array:
        """(M, K)"""
        return array.reshape((prod(array.shape[: self.axis]), self.depth))

    def _weights(self) -> Array:
        """(K, num_output)"""
        w = self.blobs[0].data
        return w if self.param.inner_product_param.transpose else w.T
