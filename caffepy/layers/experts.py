"""Experts: a bank of small networks side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.sigmoid import sigmoid
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import ExpertsParameter

ACTIVATIONS: dict[int, tuple[Callable, Callable]] = {
    ExpertsParameter.RELU: (lambda xp, x: xp.maximum(x, 0), lambda xp, dy, y: dy * (y > 0)),
    ExpertsParameter.SIGMOID: (sigmoid, lambda xp, dy, y: dy * y * (1 - y)),
    ExpertsParameter.TANH: (lambda xp, x: xp.tanh(x), lambda xp, dy, y: dy * (1 - y * y)),
}
"""The function of x, and its gradient from y."""


@register("Experts")
class Experts(Layer):
    """y_e = f(W_e x + b_e) of E experts, repeated for each `num_output`: a bank of E networks of one form.

    x (N, K), the axes behind the first flattened, is read by all experts; a bank x (N, E, K) has an input for each of
    them. Top (N, E, H), H the last `num_output`. Parameters of each fully connected layer: W (E, outputs, inputs) and,
    with `bias_term`, b (E, outputs). `activation` (RELU) follows every layer, the last one too.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.experts_param
        if not p.num_experts or not p.num_output or not all(p.num_output):
            raise ConfigError(
                f"num_experts and every num_output must be at least 1, got {p.num_experts} and {list(p.num_output)}",
                hint="For example experts_param { num_experts: 8 num_output: 64 num_output: 32 }.",
            )
        self.experts, self.sizes = p.num_experts, list(p.num_output)
        self.one_each = bottom[0].shape[1:2] == (self.experts,) and len(bottom[0].shape) == 3
        self._check_axes(bottom)
        self.depth = prod(bottom[0].shape[2 if self.one_each else 1 :])
        self.step = 2 if p.bias_term else 1
        for inputs, outputs in zip([self.depth, *self.sizes], self.sizes):
            self.add_blob((self.experts, outputs, inputs), p.weight_filler)
            if p.bias_term:
                self.add_blob((self.experts, outputs), p.bias_filler)

    def _check_axes(self, bottom: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"Experts needs a bottom (N, K) or (N, E, K), {self.bottom_name(0)} is {shape}")
        if len(shape) == 3 and not self.one_each:
            raise ShapeError(
                f"{self.bottom_name(0)} {shape} holds {shape[1]} inputs for a bank of {self.experts} experts",
                hint=f"Set num_experts: {shape[1]}, or put a Flatten before it, so that all read all of it.",
            )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if prod(shape[2 if self.one_each else 1 :]) != self.depth or (self.one_each and shape[1] != self.experts):
            raise ShapeError(
                f"{self.bottom_name(0)} is {shape}, but the experts were made for {self.depth} values"
                f"{' each' if self.one_each else ''}"
            )
        top[0].reshape(shape[0], self.experts, self.sizes[-1])
        # Of every fully connected layer its output, with a gradient: not the top's, which is the caller's.
        self.outputs = [Blob((shape[0], self.experts, size), self.engine) for size in self.sizes]

    def divisible(self) -> bool:
        return True

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        weights = sum(i * o for i, o in zip([self.depth, *self.sizes], self.sizes))
        return 2 * bottom[0].shape[0] * self.experts * weights

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        activation = ACTIVATIONS.get(self.param.experts_param.activation)
        targets = [*(blob.data for blob in self.outputs[:-1]), top[0].data]
        x = self._input(bottom[0].data)
        for y, (w, b) in zip(targets, self._params()):
            self._product(x, w.data, y)
            if b is not None:
                y += b.data
            if activation:
                self.engine.map(activation[0], y, out=y)
            x = y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        activation = ACTIVATIONS.get(self.param.experts_param.activation)
        stages = [*zip(self.outputs, self._params())]
        inputs = [self._input(bottom[0].data), *(blob.data for blob in self.outputs[:-1])]
        y, dy = top[0].data, top[0].diff
        for i in reversed(range(len(stages))):
            blob, (w, b) = stages[i]
            if activation:
                self.engine.map(activation[1], dy, y, out=blob.diff)
                dy = blob.diff
            if self.param_propagate_down[i * self.step]:
                self._add_weight_gradient(dy, inputs[i], w.diff)
            if b is not None and self.param_propagate_down[i * self.step + 1]:
                b.diff[...] += self.xp.sum(dy, axis=0)
            if i:
                y, before = inputs[i], self.outputs[i - 1].diff
                self._input_gradient(dy, w.data, before)
                dy = before
            elif propagate_down[0]:
                with self.written_as(bottom[0].diff, inputs[0].shape) as dx:
                    self._input_gradient(dy, w.data, dx)

    def _params(self) -> Iterator[tuple[Blob, Blob | None]]:
        """Weights and bias of each fully connected layer."""
        for i in range(0, len(self.blobs), self.step):
            yield self.blobs[i], self.blobs[i + 1] if self.step == 2 else None

    def _input(self, array: Array) -> Array:
        return array if self.one_each else self.by_item(array)

    # x is (N, K), one product for all experts, or (N, E, K), one for each; w (E, O, K), y (N, E, O).

    def _product(self, x: Array, w: Array, y: Array) -> None:
        xp = self.xp
        if len(x.shape) == 2:
            self.engine.gemm(x, self._joined(w).T, self.by_item(y))
        else:
            y[...] = _turned(xp, xp.matmul(_turned(xp, x), xp.permute_dims(w, (0, 2, 1))))

    def _add_weight_gradient(self, dy: Array, x: Array, dw: Array) -> None:
        if len(x.shape) == 2:
            self.engine.gemm(self.by_item(dy).T, x, self._joined(dw), accumulate=True)
        else:
            dw += self.xp.matmul(self.xp.permute_dims(dy, (1, 2, 0)), _turned(self.xp, x))

    def _input_gradient(self, dy: Array, w: Array, dx: Array) -> None:
        if len(dx.shape) == 2:
            self.engine.gemm(self.by_item(dy), self._joined(w), dx)
        else:
            dx[...] = _turned(self.xp, self.xp.matmul(_turned(self.xp, dy), w))

    def _joined(self, w: Array) -> Array:
        """(E, O, K) as (E O, K)."""
        return w.reshape((w.shape[0] * w.shape[1], w.shape[2]))


def _turned(xp, array: Array) -> Array:
    """(N, E, K) as (E, N, K), and back."""
    return xp.permute_dims(array, (1, 0, 2))
