"""SNR: sub-network routing, connections that are learned to be open or closed."""

from __future__ import annotations

import math

import numpy as np

from caffepy import rng
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.sigmoid import sigmoid
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import TRAIN, SNRParameter


def stretched(xp, s: Array, gamma: float, zeta: float) -> Array:
    """The gate z in 0 .. 1, exactly 0 or 1 for s near the ends."""
    return xp.clip(s * (zeta - gamma) + gamma, 0.0, 1.0)


@register("SNR")
class SNR(Layer):
    """u_t = sum over e of z_te W_te v_e: sub-networks v (N, E, H) routed to T above them (Ma et al. 2019).

    z = clip(s (zeta - gamma) + gamma, 0, 1) with s = sigmoid((ln u - ln(1 - u) + ln alpha) / beta), u uniform, drawn
    for each pass in TRAIN; in TEST s = sigmoid(ln alpha). Top (N, T, G), G = `num_output`; with `connection: AVERAGE`
    there is no W and G = H. A second top is the expected number of open connections, the L0 penalty,
    sum of sigmoid(ln alpha - beta ln(-gamma / zeta)): a loss, whose loss_weight says how few shall remain.
    Parameters: ln alpha (T, E), W (T G, E H).
    """

    num_top = (1, 2)
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.snr_param
        self.transforms = p.connection == SNRParameter.TRANSFORM
        if not p.num_routes or (self.transforms and not p.num_output):
            raise ConfigError("num_routes, and with TRANSFORM num_output, must be at least 1")
        if not (p.gamma < 0 and p.zeta > 1 and p.beta > 0):
            raise ConfigError(
                f"gamma must be negative, zeta above 1, beta positive; got {p.gamma:g}, {p.zeta:g}, {p.beta:g}"
            )
        if len(bottom[0].shape) != 3:
            raise ShapeError(f"SNR needs a bank (N, E, H), {self.bottom_name(0)} is {bottom[0].shape}")
        self.routes, (self.experts, self.depth) = p.num_routes, bottom[0].shape[1:]
        self.outputs = p.num_output if self.transforms else self.depth
        self.add_blob((self.routes, self.experts), p.gate_filler)
        if self.transforms:
            self.add_blob((self.routes * self.outputs, self.experts * self.depth), p.weight_filler)

    def default_loss_weight(self, top_index: int) -> float:
        return float(top_index == 1)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[1:] != (self.experts, self.depth):
            raise ShapeError(
                f"{self.bottom_name(0)} is {bottom[0].shape}, the connections are for {self.experts} sub-networks of "
                f"{self.depth} values"
            )
        top[0].reshape(bottom[0].shape[0], self.routes, self.outputs)
        if len(top) > 1:
            top[1].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, v, xp = self.param.snr_param, bottom[0].data, self.xp
        self.s = self._draw()
        self.z = stretched(xp, self.s, p.gamma, p.zeta)
        if self.transforms:
            self.weights = self._spread(self.z) * self.blobs[1].data
            self.engine.gemm(self.by_item(v), self.weights.T, self.by_item(top[0].data))
        else:
            top[0].data[...] = xp.matmul(self.z, v)
        if len(top) > 1:
            top[1].data[...] = xp.sum(self._open())

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, v, du = self.xp, bottom[0].data, top[0].diff
        if self.transforms:
            dz = self._backward_weights(self.by_item(v), self.by_item(du))
        else:
            dz = xp.sum(xp.matmul(du, xp.permute_dims(v, (0, 2, 1))), axis=0)
        if self.param_propagate_down[0]:
            self.blobs[0].diff[...] += self._gate_gradient(dz)
            if len(top) > 1:
                is_open = self._open()
                self.blobs[0].diff[...] += top[1].diff * is_open * (1 - is_open)
        if not propagate_down[0]:
            return
        if self.transforms:
            self.engine.gemm(self.by_item(du), self.weights, self.by_item(bottom[0].diff))
        else:
            bottom[0].diff[...] = xp.matmul(self.z.T, du)

    def _backward_weights(self, v: Array, du: Array) -> Array:
        """Add to the gradient of W; the gradient of z."""
        dw = self.xp.matmul(du.T, v)
        if self.param_propagate_down[1]:
            self.blobs[1].diff[...] += dw * self._spread(self.z)
        blocks = (dw * self.blobs[1].data).reshape((self.routes, self.outputs, self.experts, self.depth))
        return self.xp.sum(blocks, axis=(1, 3))

    def _draw(self) -> Array:
        log_alpha = self.blobs[0].data
        if self.phase != TRAIN:
            return sigmoid(self.xp, log_alpha)
        u = np.clip(rng.generator.random(log_alpha.shape), 1e-6, 1 - 1e-6)
        noise = self.engine.asarray((np.log(u) - np.log1p(-u)).astype(np.float32))
        return sigmoid(self.xp, (log_alpha + noise) / self.param.snr_param.beta)

    def _gate_gradient(self, dz: Array) -> Array:
        """From z to ln alpha; where z is clipped there is none."""
        p = self.param.snr_param
        beta = p.beta if self.phase == TRAIN else 1.0
        free = (self.z > 0) & (self.z < 1)
        return dz * free * (p.zeta - p.gamma) * self.s * (1 - self.s) / beta

    def connections(self) -> tuple[Array, Array]:
        """z (T, E) as it is in TEST, and the probability of each connection to be open."""
        p = self.param.snr_param
        return stretched(self.xp, sigmoid(self.xp, self.blobs[0].data), p.gamma, p.zeta), self._open()

    def _open(self) -> Array:
        """The probability of each connection to be open."""
        p = self.param.snr_param
        return sigmoid(self.xp, self.blobs[0].data - p.beta * math.log(-p.gamma / p.zeta))

    def _spread(self, z: Array) -> Array:
        """(T, E) as (T G, E H), each value in the place of its block."""
        rows = self.xp.repeat(z, self.outputs, axis=0)
        return self.xp.repeat(rows, self.depth, axis=1)
