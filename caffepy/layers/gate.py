"""Gate: experts mixed as x decides."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from caffepy.errors import ShapeError
from caffepy.layers.softmax import softmax, softmax_grad
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("Gate")
class Gate(Layer):
    """y = sum over experts e of g_e v_e, g = softmax(W x): the gate of multi-gate mixtures (Ma et al. 2018).

    Bottoms: x (N, K), the axes behind the first flattened, and one or more banks of experts v (N, E_i, H), whose
    experts count together, E. Top (N, H). W (E, K), and b (E,) with `gate_param.bias_term`, by default without.
    """

    num_bottom = (2, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.gate_param
        self._check(bottom)
        self.depth = prod(bottom[0].shape[1:])
        self.experts = sum(bank.shape[1] for bank in bottom[1:])
        self.add_blob((self.experts, self.depth), p.weight_filler)
        if p.bias_term:
            self.add_blob((self.experts,), p.bias_filler)
        self.gate = Blob((), self.engine)

    def _check(self, bottom: list[Blob]) -> None:
        for i, bank in enumerate(bottom[1:], 1):
            if len(bank.shape) != 3:
                raise ShapeError(
                    f"{self.bottom_name(i)} must be a bank of experts (N, E, H), it is {bank.shape}",
                    hint="The first bottom is what the gate reads, all others are banks: tops of Experts or SNR.",
                )
            if bank.shape[0] != bottom[0].shape[0] or bank.shape[2] != bottom[1].shape[2]:
                raise ShapeError(
                    f"banks of experts must agree in items and values, but {self.bottom_name(0)} is "
                    f"{bottom[0].shape}, {self.bottom_name(1)} {bottom[1].shape} and {self.bottom_name(i)} {bank.shape}"
                )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check(bottom)
        depth, experts = prod(bottom[0].shape[1:]), sum(bank.shape[1] for bank in bottom[1:])
        if (depth, experts) != (self.depth, self.experts):
            raise ShapeError(
                f"the gate was made for {self.depth} values and {self.experts} experts, now there are {depth} and "
                f"{experts}"
            )
        self.gate.reshape(bottom[0].shape[0], self.experts)
        top[0].reshape(bottom[0].shape[0], bottom[1].shape[2])

    def divisible(self) -> bool:
        return True

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        return 2 * self.gate.count * (self.depth + bottom[1].shape[2])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, gate, y = self.xp, self.gate.data, top[0].data
        self.engine.gemm(self.by_item(bottom[0].data), self.blobs[0].data.T, gate)
        if len(self.blobs) > 1:
            gate += self.blobs[1].data
        gate[...] = softmax(xp, gate, 1)
        y[...] = 0
        for bank, at in self._banks(bottom):
            y += xp.matmul(gate[:, None, at], bank.data)[:, 0, :]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, gate, dy = self.xp, self.gate.data, top[0].diff
        for (bank, at), wanted in zip(self._banks(bottom), propagate_down[1:]):
            self.gate.diff[:, at] = xp.matmul(bank.data, dy[:, :, None])[:, :, 0]
            if wanted:
                self.engine.map(_product, gate[:, at, None], dy[:, None, :], out=bank.diff)
        dlogits = softmax_grad(xp, self.gate.diff, gate, 1)
        if self.param_propagate_down[0]:
            self.engine.gemm(dlogits.T, self.by_item(bottom[0].data), self.blobs[0].diff, accumulate=True)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].diff[...] += xp.sum(dlogits, axis=0)
        if propagate_down[0]:
            with self.written_as(bottom[0].diff, (gate.shape[0], self.depth)) as dx:
                self.engine.gemm(dlogits, self.blobs[0].data, dx)

    def _banks(self, bottom: list[Blob]) -> Iterator[tuple[Blob, slice]]:
        """Each bank, and where its experts stand among all."""
        start = 0
        for bank in bottom[1:]:
            yield bank, slice(start, start + bank.shape[1])
            start += bank.shape[1]


def _product(xp, a: Array, b: Array) -> Array:
    return a * b
