"""FactorizationMachine: the sum of products of all pairs of features."""

from __future__ import annotations

from caffepy.errors import ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("FactorizationMachine")
class FactorizationMachine(Layer):
    """y = sum over pairs i < j of <v_i, v_j>, v (N, F, D): the second order of a factorization machine (Rendle 2010).

    Computed as (|sum of v|^2 - sum of |v|^2) / 2. Top (N, 1).
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 3:
            raise ShapeError(
                f"FactorizationMachine needs embeddings (N, F, D), {self.bottom_name(0)} is {bottom[0].shape}"
            )
        top[0].reshape(bottom[0].shape[0], 1)

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, v = self.xp, bottom[0].data
        total = xp.sum(v, axis=1)
        top[0].data[:, 0] = (xp.sum(total * total, axis=1) - xp.sum(self.by_item(v * v), axis=1)) / 2

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            v = bottom[0].data
            total = self.xp.sum(v, axis=1, keepdims=True)
            bottom[0].diff[...] = top[0].diff[:, :, None] * (total - v)
